-- Bindings of sources to credentials.

-- part: bindings
-- lacks: openapi_source_binding
CREATE TABLE openapi_source_binding (id text PRIMARY KEY NOT NULL, source_id text NOT NULL,
    source_scope_id text NOT NULL, target_scope_id text NOT NULL, slot text NOT NULL,
    value text NOT NULL, created_at integer NOT NULL, updated_at integer NOT NULL);
