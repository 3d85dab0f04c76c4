-- A connection may have an account label of its own.

-- part: account label
-- lacks: connection.identity_override
ALTER TABLE connection ADD COLUMN identity_override text;
