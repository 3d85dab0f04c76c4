-- Sources made from an interface description remember where it came from.

-- part: address of the description
-- needs: openapi_source
-- lacks: openapi_source.source_url
ALTER TABLE openapi_source ADD COLUMN source_url text;
