-- Connections.

-- part: connections
-- lacks: connection
CREATE TABLE connection (id text NOT NULL, scope_id text NOT NULL, provider text NOT NULL,
    identity_label text, access_token_secret_id text NOT NULL, refresh_token_secret_id text,
    expires_at integer, scope text, provider_state text, created_at integer NOT NULL,
    updated_at integer NOT NULL, PRIMARY KEY (scope_id, id));

-- part: owner of a secret
-- lacks: secret.owned_by_connection_id
ALTER TABLE secret ADD COLUMN owned_by_connection_id text;
