-- JSON of sources becomes rows: headers, parameters and what they refer to.

-- part: graphql_source_header
-- needs: graphql_source
-- lacks: graphql_source_header
CREATE TABLE graphql_source_header (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, secret_prefix text,
    PRIMARY KEY (scope_id, id));

-- part: graphql_source_query_param
-- needs: graphql_source
-- lacks: graphql_source_query_param
CREATE TABLE graphql_source_query_param (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, secret_prefix text,
    PRIMARY KEY (scope_id, id));

-- part: openapi_source_query_param
-- needs: openapi_source
-- lacks: openapi_source_query_param
CREATE TABLE openapi_source_query_param (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, secret_prefix text,
    PRIMARY KEY (scope_id, id));

-- part: openapi_source_spec_fetch_header
-- needs: openapi_source
-- lacks: openapi_source_spec_fetch_header
CREATE TABLE openapi_source_spec_fetch_header (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, secret_prefix text,
    PRIMARY KEY (scope_id, id));

-- part: openapi_source_spec_fetch_query_param
-- needs: openapi_source
-- lacks: openapi_source_spec_fetch_query_param
CREATE TABLE openapi_source_spec_fetch_query_param (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, secret_prefix text,
    PRIMARY KEY (scope_id, id));

-- part: mcp_source_header
-- needs: mcp_source
-- lacks: mcp_source_header
CREATE TABLE mcp_source_header (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, secret_prefix text,
    PRIMARY KEY (scope_id, id));

-- part: mcp_source_query_param
-- needs: mcp_source
-- lacks: mcp_source_query_param
CREATE TABLE mcp_source_query_param (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    name text NOT NULL, kind text NOT NULL, text_value text, secret_id text, secret_prefix text,
    PRIMARY KEY (scope_id, id));

-- part: JSON of graphql_source.headers
-- needs: graphql_source.headers
-- refuses: rows
SELECT 'graphql_source', 'scope "' || scope_id || '" id "' || id || '"', 'headers', 'not JSON'
FROM graphql_source WHERE headers IS NOT NULL AND NOT json_valid(headers, 2);

-- part: JSON of graphql_source.query_params
-- needs: graphql_source.query_params
-- refuses: rows
SELECT 'graphql_source', 'scope "' || scope_id || '" id "' || id || '"', 'query_params', 'not JSON'
FROM graphql_source WHERE query_params IS NOT NULL AND NOT json_valid(query_params, 2);

-- part: JSON of graphql_source.auth
-- needs: graphql_source.auth
-- refuses: rows
SELECT 'graphql_source', 'scope "' || scope_id || '" id "' || id || '"', 'auth', 'not JSON'
FROM graphql_source WHERE auth IS NOT NULL AND NOT json_valid(auth, 2);

-- part: JSON of openapi_source.headers
-- needs: openapi_source.headers
-- refuses: rows
SELECT 'openapi_source', 'scope "' || scope_id || '" id "' || id || '"', 'headers', 'not JSON'
FROM openapi_source WHERE headers IS NOT NULL AND NOT json_valid(headers, 2);

-- part: JSON of openapi_source.query_params
-- needs: openapi_source.query_params
-- refuses: rows
SELECT 'openapi_source', 'scope "' || scope_id || '" id "' || id || '"', 'query_params', 'not JSON'
FROM openapi_source WHERE query_params IS NOT NULL AND NOT json_valid(query_params, 2);

-- part: JSON of openapi_source.oauth2
-- needs: openapi_source.oauth2
-- refuses: rows
SELECT 'openapi_source', 'scope "' || scope_id || '" id "' || id || '"', 'oauth2', 'not JSON'
FROM openapi_source WHERE oauth2 IS NOT NULL AND NOT json_valid(oauth2, 2);

-- part: JSON of openapi_source.invocation_config
-- needs: openapi_source.invocation_config
-- refuses: rows
SELECT 'openapi_source', 'scope "' || scope_id || '" id "' || id || '"', 'invocation_config', 'not JSON'
FROM openapi_source WHERE invocation_config IS NOT NULL AND NOT json_valid(invocation_config, 2);

-- part: JSON of mcp_source.config
-- needs: mcp_source.config
-- refuses: rows
SELECT 'mcp_source', 'scope "' || scope_id || '" id "' || id || '"', 'config', 'not JSON'
FROM mcp_source WHERE config IS NOT NULL AND NOT json_valid(config, 2);

-- part: JSON of openapi_source_binding.value
-- needs: openapi_source_binding.value
-- refuses: rows
SELECT 'openapi_source_binding', 'scope "' || target_scope_id || '" id "' || id || '"', 'value',
    'not JSON'
FROM openapi_source_binding WHERE NOT json_valid(value, 2);

-- part: rows of graphql_source_header
-- needs: graphql_source.headers, graphql_source_header.secret_id
INSERT OR IGNORE INTO graphql_source_header
    (id, scope_id, source_id, name, kind, text_value, secret_id, secret_prefix)
SELECT json_array(s.id, m.key), s.scope_id, s.id, m.key,
    CASE WHEN CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END IS NOT NULL
        THEN 'secret' ELSE 'text' END,
    CASE WHEN m.type <> 'object' THEN m.value END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.prefix') END
FROM graphql_source s CROSS JOIN json_each(s.headers) m;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'header "' || m.key || '" of source "' || s.id || '"'
FROM graphql_source s CROSS JOIN json_each(s.headers) m
WHERE m.type = 'null'
    OR (CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') ELSE '' END) IS NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'all headers of source "' || id || '"' FROM graphql_source
WHERE json_type(headers) IN ('integer', 'real', 'true', 'false', 'text');

-- part: rows of graphql_source_query_param
-- needs: graphql_source.query_params, graphql_source_query_param.secret_id
INSERT OR IGNORE INTO graphql_source_query_param
    (id, scope_id, source_id, name, kind, text_value, secret_id, secret_prefix)
SELECT json_array(s.id, m.key), s.scope_id, s.id, m.key,
    CASE WHEN CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END IS NOT NULL
        THEN 'secret' ELSE 'text' END,
    CASE WHEN m.type <> 'object' THEN m.value END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.prefix') END
FROM graphql_source s CROSS JOIN json_each(s.query_params) m;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'parameter "' || m.key || '" of source "' || s.id || '"'
FROM graphql_source s CROSS JOIN json_each(s.query_params) m
WHERE m.type = 'null'
    OR (CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') ELSE '' END) IS NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'all parameters of source "' || id || '"' FROM graphql_source
WHERE json_type(query_params) IN ('integer', 'real', 'true', 'false', 'text');

-- part: kind of GraphQL authentication
-- needs: graphql_source
-- lacks: graphql_source.auth_kind
ALTER TABLE graphql_source ADD COLUMN auth_kind text DEFAULT 'none' NOT NULL;

-- part: connection of GraphQL authentication
-- needs: graphql_source
-- lacks: graphql_source.auth_connection_id
ALTER TABLE graphql_source ADD COLUMN auth_connection_id text;

-- part: GraphQL authentication
-- needs: graphql_source.auth, graphql_source.auth_connection_id
UPDATE graphql_source SET auth_kind = coalesce(json_extract(auth, '$.kind'), 'none'),
    auth_connection_id = json_extract(auth, '$.connectionId')
WHERE auth IS NOT NULL;

-- part: rows of openapi_source_query_param
-- needs: openapi_source.query_params, openapi_source_query_param.secret_id
INSERT OR IGNORE INTO openapi_source_query_param
    (id, scope_id, source_id, name, kind, text_value, secret_id, secret_prefix)
SELECT json_array(s.id, m.key), s.scope_id, s.id, m.key,
    CASE WHEN CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END IS NOT NULL
        THEN 'secret' ELSE 'text' END,
    CASE WHEN m.type <> 'object' THEN m.value END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.prefix') END
FROM openapi_source s CROSS JOIN json_each(s.query_params) m;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'parameter "' || m.key || '" of source "' || s.id || '"'
FROM openapi_source s CROSS JOIN json_each(s.query_params) m
WHERE m.type = 'null'
    OR (CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') ELSE '' END) IS NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'all parameters of source "' || id || '"' FROM openapi_source
WHERE json_type(query_params) IN ('integer', 'real', 'true', 'false', 'text');

-- part: rows of openapi_source_spec_fetch_header
-- needs: openapi_source.invocation_config, openapi_source_spec_fetch_header.secret_id
INSERT OR IGNORE INTO openapi_source_spec_fetch_header
    (id, scope_id, source_id, name, kind, text_value, secret_id, secret_prefix)
SELECT json_array(s.id, m.key), s.scope_id, s.id, m.key,
    CASE WHEN CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END IS NOT NULL
        THEN 'secret' ELSE 'text' END,
    CASE WHEN m.type <> 'object' THEN m.value END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.prefix') END
FROM openapi_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.invocation_config, '$.specFetchCredentials.headers'), 2)
    THEN json_extract(s.invocation_config, '$.specFetchCredentials.headers') END) m;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'header for fetching "' || m.key || '" of source "' || s.id || '"'
FROM openapi_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.invocation_config, '$.specFetchCredentials.headers'), 2)
    THEN json_extract(s.invocation_config, '$.specFetchCredentials.headers') END) m
WHERE m.type = 'null'
    OR (CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') ELSE '' END) IS NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'all headers for fetching of source "' || id || '"' FROM openapi_source
WHERE json_type(invocation_config, '$.specFetchCredentials.headers') IN ('integer', 'real', 'true', 'false')
    OR (json_type(invocation_config, '$.specFetchCredentials.headers') = 'text' AND NOT json_valid(json_extract(invocation_config, '$.specFetchCredentials.headers'), 2));

-- part: rows of openapi_source_spec_fetch_query_param
-- needs: openapi_source.invocation_config, openapi_source_spec_fetch_query_param.secret_id
INSERT OR IGNORE INTO openapi_source_spec_fetch_query_param
    (id, scope_id, source_id, name, kind, text_value, secret_id, secret_prefix)
SELECT json_array(s.id, m.key), s.scope_id, s.id, m.key,
    CASE WHEN CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END IS NOT NULL
        THEN 'secret' ELSE 'text' END,
    CASE WHEN m.type <> 'object' THEN m.value END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.prefix') END
FROM openapi_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.invocation_config, '$.specFetchCredentials.queryParams'), 2)
    THEN json_extract(s.invocation_config, '$.specFetchCredentials.queryParams') END) m;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'parameter for fetching "' || m.key || '" of source "' || s.id || '"'
FROM openapi_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.invocation_config, '$.specFetchCredentials.queryParams'), 2)
    THEN json_extract(s.invocation_config, '$.specFetchCredentials.queryParams') END) m
WHERE m.type = 'null'
    OR (CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') ELSE '' END) IS NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'all parameters for fetching of source "' || id || '"' FROM openapi_source
WHERE json_type(invocation_config, '$.specFetchCredentials.queryParams') IN ('integer', 'real', 'true', 'false')
    OR (json_type(invocation_config, '$.specFetchCredentials.queryParams') = 'text' AND NOT json_valid(json_extract(invocation_config, '$.specFetchCredentials.queryParams'), 2));

-- part: kind of bindings
-- needs: openapi_source_binding
-- lacks: openapi_source_binding.kind
ALTER TABLE openapi_source_binding ADD COLUMN kind text DEFAULT 'text' NOT NULL;

-- part: secret_id of bindings
-- needs: openapi_source_binding
-- lacks: openapi_source_binding.secret_id
ALTER TABLE openapi_source_binding ADD COLUMN secret_id text;

-- part: connection_id of bindings
-- needs: openapi_source_binding
-- lacks: openapi_source_binding.connection_id
ALTER TABLE openapi_source_binding ADD COLUMN connection_id text;

-- part: text_value of bindings
-- needs: openapi_source_binding
-- lacks: openapi_source_binding.text_value
ALTER TABLE openapi_source_binding ADD COLUMN text_value text;

-- part: values of bindings
-- needs: openapi_source_binding.value
UPDATE openapi_source_binding SET kind = coalesce(json_extract(value, '$.kind'), 'text');
UPDATE openapi_source_binding SET
    secret_id = CASE kind WHEN 'secret' THEN json_extract(value, '$.secretId') END,
    connection_id = CASE kind WHEN 'connection' THEN json_extract(value, '$.connectionId') END,
    text_value = CASE kind WHEN 'text' THEN json_extract(value, '$.text') END;

-- part: OAuth of OpenAPI
-- needs: openapi_source.invocation_config, openapi_source.oauth2
UPDATE openapi_source SET oauth2 = json_extract(invocation_config, '$.oauth2')
WHERE oauth2 IS NULL AND json_extract(invocation_config, '$.oauth2') IS NOT NULL;

-- part: auth_kind of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_kind
ALTER TABLE mcp_source ADD COLUMN auth_kind text DEFAULT 'none' NOT NULL;

-- part: auth_header_name of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_header_name
ALTER TABLE mcp_source ADD COLUMN auth_header_name text;

-- part: auth_secret_id of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_secret_id
ALTER TABLE mcp_source ADD COLUMN auth_secret_id text;

-- part: auth_secret_prefix of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_secret_prefix
ALTER TABLE mcp_source ADD COLUMN auth_secret_prefix text;

-- part: auth_connection_id of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_connection_id
ALTER TABLE mcp_source ADD COLUMN auth_connection_id text;

-- part: auth_client_id_secret_id of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_client_id_secret_id
ALTER TABLE mcp_source ADD COLUMN auth_client_id_secret_id text;

-- part: auth_client_secret_secret_id of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_client_secret_secret_id
ALTER TABLE mcp_source ADD COLUMN auth_client_secret_secret_id text;

-- part: authentication of MCP
-- needs: mcp_source.config, mcp_source.auth_secret_id
UPDATE mcp_source SET auth_kind = json_extract(config, '$.auth.kind'),
    auth_header_name = json_extract(config, '$.auth.headerName'),
    auth_secret_id = json_extract(config, '$.auth.secretId'),
    auth_secret_prefix = json_extract(config, '$.auth.prefix'),
    auth_connection_id = json_extract(config, '$.auth.connectionId'),
    auth_client_id_secret_id = json_extract(config, '$.auth.clientIdSecretId'),
    auth_client_secret_secret_id = json_extract(config, '$.auth.clientSecretSecretId')
WHERE (json_extract(config, '$.auth.kind') = 'header'
        AND json_extract(config, '$.auth.secretId') IS NOT NULL)
    OR (json_extract(config, '$.auth.kind') = 'oauth2'
        AND json_extract(config, '$.auth.connectionId') IS NOT NULL);

-- part: rows of mcp_source_header
-- needs: mcp_source.config, mcp_source_header.secret_id
INSERT OR IGNORE INTO mcp_source_header
    (id, scope_id, source_id, name, kind, text_value, secret_id, secret_prefix)
SELECT json_array(s.id, m.key), s.scope_id, s.id, m.key,
    CASE WHEN CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END IS NOT NULL
        THEN 'secret' ELSE 'text' END,
    CASE WHEN m.type <> 'object' THEN m.value END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.prefix') END
FROM mcp_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.config, '$.headers'), 2)
    THEN json_extract(s.config, '$.headers') END) m;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'header "' || m.key || '" of source "' || s.id || '"'
FROM mcp_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.config, '$.headers'), 2)
    THEN json_extract(s.config, '$.headers') END) m
WHERE m.type = 'null'
    OR (CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') ELSE '' END) IS NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'all headers of source "' || id || '"' FROM mcp_source
WHERE json_type(config, '$.headers') IN ('integer', 'real', 'true', 'false')
    OR (json_type(config, '$.headers') = 'text' AND NOT json_valid(json_extract(config, '$.headers'), 2));

-- part: rows of mcp_source_query_param
-- needs: mcp_source.config, mcp_source_query_param.secret_id
INSERT OR IGNORE INTO mcp_source_query_param
    (id, scope_id, source_id, name, kind, text_value, secret_id, secret_prefix)
SELECT json_array(s.id, m.key), s.scope_id, s.id, m.key,
    CASE WHEN CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END IS NOT NULL
        THEN 'secret' ELSE 'text' END,
    CASE WHEN m.type <> 'object' THEN m.value END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') END,
    CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.prefix') END
FROM mcp_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.config, '$.queryParams'), 2)
    THEN json_extract(s.config, '$.queryParams') END) m;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'parameter "' || m.key || '" of source "' || s.id || '"'
FROM mcp_source s CROSS JOIN json_each(CASE WHEN json_valid(json_extract(s.config, '$.queryParams'), 2)
    THEN json_extract(s.config, '$.queryParams') END) m
WHERE m.type = 'null'
    OR (CASE WHEN m.type = 'object' THEN json_extract(m.value, '$.secretId') ELSE '' END) IS NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'all parameters of source "' || id || '"' FROM mcp_source
WHERE json_type(config, '$.queryParams') IN ('integer', 'real', 'true', 'false')
    OR (json_type(config, '$.queryParams') = 'text' AND NOT json_valid(json_extract(config, '$.queryParams'), 2));

-- part: what is left in the configuration of MCP
-- needs: mcp_source.config
UPDATE mcp_source SET config = json_remove(config, '$.headers', '$.queryParams')
WHERE json_type(config, '$.headers') IS NOT NULL OR json_type(config, '$.queryParams') IS NOT NULL;
UPDATE mcp_source SET config = json_remove(config, '$.auth')
WHERE json_extract(config, '$.auth.kind') = 'none'
    OR (json_extract(config, '$.auth.kind') = 'header'
        AND json_extract(config, '$.auth.secretId') IS NOT NULL)
    OR (json_extract(config, '$.auth.kind') = 'oauth2'
        AND json_extract(config, '$.auth.connectionId') IS NOT NULL);
