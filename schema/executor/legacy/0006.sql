-- Parameters of sources.

-- part: parameters of GraphQL
-- needs: graphql_source
-- lacks: graphql_source.query_params
ALTER TABLE graphql_source ADD COLUMN query_params text;

-- part: authentication of GraphQL
-- needs: graphql_source
-- lacks: graphql_source.auth
ALTER TABLE graphql_source ADD COLUMN auth text;

-- part: parameters of OpenAPI
-- needs: openapi_source
-- lacks: openapi_source.query_params
ALTER TABLE openapi_source ADD COLUMN query_params text;
