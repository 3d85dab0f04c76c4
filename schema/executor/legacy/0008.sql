-- Credentials leave the sources: each becomes a binding of a slot. The order in which bindings are
-- made decides names later on, so the parts below may not change places.

-- part: bindings
-- lacks: credential_binding
CREATE TABLE credential_binding (id text NOT NULL, scope_id text NOT NULL, plugin_id text NOT NULL,
    source_id text NOT NULL, source_scope_id text NOT NULL, slot_key text NOT NULL,
    kind text NOT NULL, text_value text, secret_id text, connection_id text,
    created_at integer NOT NULL, updated_at integer NOT NULL, PRIMARY KEY (scope_id, id));

-- part: bindings of OpenAPI
-- needs: openapi_source_binding.kind, credential_binding
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'row-replaced', 'binding of scope "' || target_scope_id || '" source "' || source_id
    || '" slot "' || slot || '"'
FROM openapi_source_binding
GROUP BY target_scope_id, source_scope_id, source_id, slot HAVING count(*) > 1;
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', source_scope_id, source_id, slot), target_scope_id, 'openapi',
    source_id, source_scope_id, slot, kind, text_value, secret_id, connection_id, created_at,
    updated_at
FROM openapi_source_binding;

-- part: headers of OpenAPI as members
-- needs: openapi_source.headers
CREATE TEMP VIEW openapi_header_member AS
SELECT s.scope_id, s.id, h.key AS name, h.type, h.value,
    'header:' || slot_slug(h.key) AS slot,
    CASE WHEN h.type = 'object' THEN json_extract(h.value, '$.kind') END AS kind,
    CASE WHEN h.type = 'object' THEN json_extract(h.value, '$.secretId') END AS secret_id
FROM openapi_source s CROSS JOIN json_each(s.headers) h;

-- part: headers of OpenAPI that would share a slot
-- needs: openapi_source.headers
-- refuses: rows
SELECT 'openapi_source', 'scope "' || scope_id || '" id "' || id || '"', 'headers',
    'the headers ' || group_concat(name, ' and ') || ' both want the slot ' || slot
FROM openapi_header_member WHERE type = 'object' AND kind IS NULL AND secret_id IS NOT NULL
GROUP BY scope_id, id, slot HAVING count(*) > 1;

-- part: header secrets of OpenAPI
-- needs: openapi_source.headers, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.id, s.slot), s.scope_id, 'openapi', s.id, s.scope_id,
    s.slot, 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM openapi_header_member s WHERE s.type = 'object' AND s.kind IS NULL AND s.secret_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.id AND b.source_scope_id = s.scope_id
        AND b.slot_key = s.slot);

-- part: OAuth of OpenAPI as columns
-- needs: openapi_source.oauth2
CREATE TEMP VIEW openapi_oauth AS
SELECT scope_id, id, json_extract(oauth2, '$.connectionId') AS connection_id,
    json_extract(oauth2, '$.clientIdSecretId') AS client_id,
    json_extract(oauth2, '$.clientSecretSecretId') AS client_secret,
    'oauth2:' || slot_slug(json_extract(oauth2, '$.securitySchemeName')) AS slot
FROM openapi_source
WHERE oauth2 IS NOT NULL AND json_extract(oauth2, '$.connectionId') IS NOT NULL;

-- part: OAuth client ids of OpenAPI
-- needs: openapi_source.oauth2, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.id, s.slot || ':client-id'), s.scope_id, 'openapi', s.id, s.scope_id,
    s.slot || ':client-id', 'secret', NULL, s.client_id, NULL, replay_now(), replay_now()
FROM openapi_oauth s WHERE s.client_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.id AND b.source_scope_id = s.scope_id
        AND b.slot_key = s.slot || ':client-id');

-- part: OAuth client secrets of OpenAPI
-- needs: openapi_source.oauth2, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.id, s.slot || ':client-secret'), s.scope_id, 'openapi', s.id, s.scope_id,
    s.slot || ':client-secret', 'secret', NULL, s.client_secret, NULL, replay_now(), replay_now()
FROM openapi_oauth s WHERE s.client_secret IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.id AND b.source_scope_id = s.scope_id
        AND b.slot_key = s.slot || ':client-secret');

-- part: OAuth connections of OpenAPI
-- needs: openapi_source.oauth2, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.id, s.slot || ':connection'), s.scope_id, 'openapi', s.id, s.scope_id,
    s.slot || ':connection', 'connection', NULL, NULL, s.connection_id, replay_now(), replay_now()
FROM openapi_oauth s WHERE s.connection_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.id AND b.source_scope_id = s.scope_id
        AND b.slot_key = s.slot || ':connection');

-- part: OAuth of OpenAPI refers to slots
-- needs: openapi_source.oauth2
UPDATE openapi_source SET oauth2 = json_object('kind', 'oauth2',
    'securitySchemeName', json_extract(oauth2, '$.securitySchemeName'),
    'flow', json_extract(oauth2, '$.flow'),
    'tokenUrl', json_extract(oauth2, '$.tokenUrl'),
    'authorizationUrl', json_extract(oauth2, '$.authorizationUrl'),
    'issuerUrl', json_extract(oauth2, '$.issuerUrl'),
    'clientIdSlot',
        'oauth2:' || slot_slug(json_extract(oauth2, '$.securitySchemeName')) || ':client-id',
    'clientSecretSlot', CASE WHEN json_extract(oauth2, '$.clientSecretSecretId') IS NOT NULL
        THEN 'oauth2:' || slot_slug(json_extract(oauth2, '$.securitySchemeName'))
            || ':client-secret' END,
    'connectionSlot',
        'oauth2:' || slot_slug(json_extract(oauth2, '$.securitySchemeName')) || ':connection',
    'scopes', json(CASE WHEN json_extract(oauth2, '$.scopes') IS NULL THEN '[]'
        ELSE oauth2 -> '$.scopes' END))
WHERE oauth2 IS NOT NULL AND json_extract(oauth2, '$.connectionId') IS NOT NULL;
DROP VIEW openapi_oauth;

-- part: slots of openapi_source_query_param
-- needs: openapi_source_query_param
-- lacks: openapi_source_query_param.slot_key
ALTER TABLE openapi_source_query_param ADD COLUMN slot_key text;

-- part: prefixes of openapi_source_query_param
-- needs: openapi_source_query_param
-- lacks: openapi_source_query_param.prefix
ALTER TABLE openapi_source_query_param ADD COLUMN prefix text;

-- part: names of openapi_source_query_param that would share a slot
-- needs: openapi_source_query_param.secret_id
-- refuses: rows
SELECT 'openapi_source_query_param', 'scope "' || scope_id || '" source "' || source_id || '"', 'name',
    'the names ' || group_concat(name, ' and ') || ' both want the slot query_param:' || slot_slug(name)
FROM openapi_source_query_param WHERE kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, source_id, slot_slug(name) HAVING count(*) > 1;

-- part: secrets of openapi_source_query_param
-- needs: openapi_source_query_param.secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.source_id, 'query_param:' || slot_slug(s.name)), s.scope_id, 'openapi', s.source_id, s.scope_id,
    'query_param:' || slot_slug(s.name), 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM openapi_source_query_param s WHERE s.kind = 'secret' AND s.secret_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.source_id AND b.source_scope_id = s.scope_id
        AND b.slot_key = 'query_param:' || slot_slug(s.name));
UPDATE openapi_source_query_param SET kind = 'binding', slot_key = 'query_param:' || slot_slug(name), prefix = secret_prefix
WHERE kind = 'secret';

-- part: slots of openapi_source_spec_fetch_header
-- needs: openapi_source_spec_fetch_header
-- lacks: openapi_source_spec_fetch_header.slot_key
ALTER TABLE openapi_source_spec_fetch_header ADD COLUMN slot_key text;

-- part: prefixes of openapi_source_spec_fetch_header
-- needs: openapi_source_spec_fetch_header
-- lacks: openapi_source_spec_fetch_header.prefix
ALTER TABLE openapi_source_spec_fetch_header ADD COLUMN prefix text;

-- part: names of openapi_source_spec_fetch_header that would share a slot
-- needs: openapi_source_spec_fetch_header.secret_id
-- refuses: rows
SELECT 'openapi_source_spec_fetch_header', 'scope "' || scope_id || '" source "' || source_id || '"', 'name',
    'the names ' || group_concat(name, ' and ') || ' both want the slot spec_fetch_header:' || slot_slug(name)
FROM openapi_source_spec_fetch_header WHERE kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, source_id, slot_slug(name) HAVING count(*) > 1;

-- part: secrets of openapi_source_spec_fetch_header
-- needs: openapi_source_spec_fetch_header.secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.source_id, 'spec_fetch_header:' || slot_slug(s.name)), s.scope_id, 'openapi', s.source_id, s.scope_id,
    'spec_fetch_header:' || slot_slug(s.name), 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM openapi_source_spec_fetch_header s WHERE s.kind = 'secret' AND s.secret_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.source_id AND b.source_scope_id = s.scope_id
        AND b.slot_key = 'spec_fetch_header:' || slot_slug(s.name));
UPDATE openapi_source_spec_fetch_header SET kind = 'binding', slot_key = 'spec_fetch_header:' || slot_slug(name), prefix = secret_prefix
WHERE kind = 'secret';

-- part: slots of openapi_source_spec_fetch_query_param
-- needs: openapi_source_spec_fetch_query_param
-- lacks: openapi_source_spec_fetch_query_param.slot_key
ALTER TABLE openapi_source_spec_fetch_query_param ADD COLUMN slot_key text;

-- part: prefixes of openapi_source_spec_fetch_query_param
-- needs: openapi_source_spec_fetch_query_param
-- lacks: openapi_source_spec_fetch_query_param.prefix
ALTER TABLE openapi_source_spec_fetch_query_param ADD COLUMN prefix text;

-- part: names of openapi_source_spec_fetch_query_param that would share a slot
-- needs: openapi_source_spec_fetch_query_param.secret_id
-- refuses: rows
SELECT 'openapi_source_spec_fetch_query_param', 'scope "' || scope_id || '" source "' || source_id || '"', 'name',
    'the names ' || group_concat(name, ' and ') || ' both want the slot spec_fetch_query_param:' || slot_slug(name)
FROM openapi_source_spec_fetch_query_param WHERE kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, source_id, slot_slug(name) HAVING count(*) > 1;

-- part: secrets of openapi_source_spec_fetch_query_param
-- needs: openapi_source_spec_fetch_query_param.secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.source_id, 'spec_fetch_query_param:' || slot_slug(s.name)), s.scope_id, 'openapi', s.source_id, s.scope_id,
    'spec_fetch_query_param:' || slot_slug(s.name), 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM openapi_source_spec_fetch_query_param s WHERE s.kind = 'secret' AND s.secret_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.source_id AND b.source_scope_id = s.scope_id
        AND b.slot_key = 'spec_fetch_query_param:' || slot_slug(s.name));
UPDATE openapi_source_spec_fetch_query_param SET kind = 'binding', slot_key = 'spec_fetch_query_param:' || slot_slug(name), prefix = secret_prefix
WHERE kind = 'secret';

-- part: slot of GraphQL authentication
-- needs: graphql_source
-- lacks: graphql_source.auth_connection_slot
ALTER TABLE graphql_source ADD COLUMN auth_connection_slot text;

-- part: connections of GraphQL
-- needs: graphql_source.auth_connection_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('graphql', s.scope_id, s.id, 'auth:oauth2:connection'), s.scope_id, 'graphql', s.id, s.scope_id,
    'auth:oauth2:connection', 'connection', NULL, NULL, s.auth_connection_id, replay_now(), replay_now()
FROM graphql_source s WHERE s.auth_kind = 'oauth2' AND s.auth_connection_id IS NOT NULL;
UPDATE graphql_source SET auth_connection_slot = 'auth:oauth2:connection'
WHERE auth_kind = 'oauth2' AND auth_connection_id IS NOT NULL;

-- part: slots of graphql_source_header
-- needs: graphql_source_header
-- lacks: graphql_source_header.slot_key
ALTER TABLE graphql_source_header ADD COLUMN slot_key text;

-- part: prefixes of graphql_source_header
-- needs: graphql_source_header
-- lacks: graphql_source_header.prefix
ALTER TABLE graphql_source_header ADD COLUMN prefix text;

-- part: names of graphql_source_header that would share a slot
-- needs: graphql_source_header.secret_id
-- refuses: rows
SELECT 'graphql_source_header', 'scope "' || scope_id || '" source "' || source_id || '"', 'name',
    'the names ' || group_concat(name, ' and ') || ' both want the slot header:' || slot_slug(name)
FROM graphql_source_header WHERE kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, source_id, slot_slug(name) HAVING count(*) > 1;

-- part: secrets of graphql_source_header
-- needs: graphql_source_header.secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('graphql', s.scope_id, s.source_id, 'header:' || slot_slug(s.name)), s.scope_id, 'graphql', s.source_id, s.scope_id,
    'header:' || slot_slug(s.name), 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM graphql_source_header s WHERE s.kind = 'secret' AND s.secret_id IS NOT NULL;
UPDATE graphql_source_header SET kind = 'binding', slot_key = 'header:' || slot_slug(name), prefix = secret_prefix,
    text_value = NULL
WHERE kind = 'secret' AND secret_id IS NOT NULL;

-- part: slots of graphql_source_query_param
-- needs: graphql_source_query_param
-- lacks: graphql_source_query_param.slot_key
ALTER TABLE graphql_source_query_param ADD COLUMN slot_key text;

-- part: prefixes of graphql_source_query_param
-- needs: graphql_source_query_param
-- lacks: graphql_source_query_param.prefix
ALTER TABLE graphql_source_query_param ADD COLUMN prefix text;

-- part: names of graphql_source_query_param that would share a slot
-- needs: graphql_source_query_param.secret_id
-- refuses: rows
SELECT 'graphql_source_query_param', 'scope "' || scope_id || '" source "' || source_id || '"', 'name',
    'the names ' || group_concat(name, ' and ') || ' both want the slot query_param:' || slot_slug(name)
FROM graphql_source_query_param WHERE kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, source_id, slot_slug(name) HAVING count(*) > 1;

-- part: secrets of graphql_source_query_param
-- needs: graphql_source_query_param.secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('graphql', s.scope_id, s.source_id, 'query_param:' || slot_slug(s.name)), s.scope_id, 'graphql', s.source_id, s.scope_id,
    'query_param:' || slot_slug(s.name), 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM graphql_source_query_param s WHERE s.kind = 'secret' AND s.secret_id IS NOT NULL;
UPDATE graphql_source_query_param SET kind = 'binding', slot_key = 'query_param:' || slot_slug(name), prefix = secret_prefix,
    text_value = NULL
WHERE kind = 'secret' AND secret_id IS NOT NULL;

-- part: auth_header_slot of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_header_slot
ALTER TABLE mcp_source ADD COLUMN auth_header_slot text;

-- part: auth_header_prefix of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_header_prefix
ALTER TABLE mcp_source ADD COLUMN auth_header_prefix text;

-- part: auth_connection_slot of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_connection_slot
ALTER TABLE mcp_source ADD COLUMN auth_connection_slot text;

-- part: auth_client_id_slot of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_client_id_slot
ALTER TABLE mcp_source ADD COLUMN auth_client_id_slot text;

-- part: auth_client_secret_slot of MCP
-- needs: mcp_source
-- lacks: mcp_source.auth_client_secret_slot
ALTER TABLE mcp_source ADD COLUMN auth_client_secret_slot text;

-- part: header secrets of MCP
-- needs: mcp_source.auth_secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('mcp', s.scope_id, s.id, 'auth:header'), s.scope_id, 'mcp', s.id, s.scope_id,
    'auth:header', 'secret', NULL, s.auth_secret_id, NULL, replay_now(), replay_now()
FROM mcp_source s WHERE s.auth_kind = 'header' AND s.auth_secret_id IS NOT NULL;
UPDATE mcp_source SET auth_header_slot = 'auth:header', auth_header_prefix = auth_secret_prefix
WHERE auth_kind = 'header' AND auth_secret_id IS NOT NULL;

-- part: OAuth connections of MCP
-- needs: mcp_source.auth_connection_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('mcp', s.scope_id, s.id, 'auth:oauth2:connection'), s.scope_id, 'mcp', s.id, s.scope_id,
    'auth:oauth2:connection', 'connection', NULL, NULL, s.auth_connection_id, replay_now(), replay_now()
FROM mcp_source s WHERE s.auth_kind = 'oauth2' AND s.auth_connection_id IS NOT NULL;
UPDATE mcp_source SET auth_connection_slot = 'auth:oauth2:connection'
WHERE auth_kind = 'oauth2' AND auth_connection_id IS NOT NULL;

-- part: OAuth client ids of MCP
-- needs: mcp_source.auth_client_id_secret_id, mcp_source.auth_connection_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('mcp', s.scope_id, s.id, 'auth:oauth2:client-id'), s.scope_id, 'mcp', s.id, s.scope_id,
    'auth:oauth2:client-id', 'secret', NULL, s.auth_client_id_secret_id, NULL, replay_now(), replay_now()
FROM mcp_source s WHERE s.auth_kind = 'oauth2' AND s.auth_client_id_secret_id IS NOT NULL;
UPDATE mcp_source SET auth_client_id_slot = 'auth:oauth2:client-id'
WHERE auth_kind = 'oauth2' AND auth_connection_id IS NOT NULL AND auth_client_id_secret_id IS NOT NULL;

-- part: OAuth client secrets of MCP
-- needs: mcp_source.auth_client_secret_secret_id, mcp_source.auth_connection_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('mcp', s.scope_id, s.id, 'auth:oauth2:client-secret'), s.scope_id, 'mcp', s.id, s.scope_id,
    'auth:oauth2:client-secret', 'secret', NULL, s.auth_client_secret_secret_id, NULL, replay_now(), replay_now()
FROM mcp_source s WHERE s.auth_kind = 'oauth2' AND s.auth_client_secret_secret_id IS NOT NULL;
UPDATE mcp_source SET auth_client_secret_slot = 'auth:oauth2:client-secret'
WHERE auth_kind = 'oauth2' AND auth_connection_id IS NOT NULL AND auth_client_secret_secret_id IS NOT NULL;

-- part: slots of mcp_source_header
-- needs: mcp_source_header
-- lacks: mcp_source_header.slot_key
ALTER TABLE mcp_source_header ADD COLUMN slot_key text;

-- part: prefixes of mcp_source_header
-- needs: mcp_source_header
-- lacks: mcp_source_header.prefix
ALTER TABLE mcp_source_header ADD COLUMN prefix text;

-- part: names of mcp_source_header that would share a slot
-- needs: mcp_source_header.secret_id
-- refuses: rows
SELECT 'mcp_source_header', 'scope "' || scope_id || '" source "' || source_id || '"', 'name',
    'the names ' || group_concat(name, ' and ') || ' both want the slot header:' || slot_slug(name)
FROM mcp_source_header WHERE kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, source_id, slot_slug(name) HAVING count(*) > 1;

-- part: secrets of mcp_source_header
-- needs: mcp_source_header.secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('mcp', s.scope_id, s.source_id, 'header:' || slot_slug(s.name)), s.scope_id, 'mcp', s.source_id, s.scope_id,
    'header:' || slot_slug(s.name), 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM mcp_source_header s WHERE s.kind = 'secret' AND s.secret_id IS NOT NULL;
UPDATE mcp_source_header SET kind = 'binding', slot_key = 'header:' || slot_slug(name), prefix = secret_prefix,
    text_value = NULL
WHERE kind = 'secret' AND secret_id IS NOT NULL;

-- part: slots of mcp_source_query_param
-- needs: mcp_source_query_param
-- lacks: mcp_source_query_param.slot_key
ALTER TABLE mcp_source_query_param ADD COLUMN slot_key text;

-- part: prefixes of mcp_source_query_param
-- needs: mcp_source_query_param
-- lacks: mcp_source_query_param.prefix
ALTER TABLE mcp_source_query_param ADD COLUMN prefix text;

-- part: names of mcp_source_query_param that would share a slot
-- needs: mcp_source_query_param.secret_id
-- refuses: rows
SELECT 'mcp_source_query_param', 'scope "' || scope_id || '" source "' || source_id || '"', 'name',
    'the names ' || group_concat(name, ' and ') || ' both want the slot query_param:' || slot_slug(name)
FROM mcp_source_query_param WHERE kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, source_id, slot_slug(name) HAVING count(*) > 1;

-- part: secrets of mcp_source_query_param
-- needs: mcp_source_query_param.secret_id, credential_binding
INSERT OR REPLACE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('mcp', s.scope_id, s.source_id, 'query_param:' || slot_slug(s.name)), s.scope_id, 'mcp', s.source_id, s.scope_id,
    'query_param:' || slot_slug(s.name), 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM mcp_source_query_param s WHERE s.kind = 'secret' AND s.secret_id IS NOT NULL;
UPDATE mcp_source_query_param SET kind = 'binding', slot_key = 'query_param:' || slot_slug(name), prefix = secret_prefix,
    text_value = NULL
WHERE kind = 'secret' AND secret_id IS NOT NULL;

-- part: blank states of connections
-- needs: connection.provider_state
UPDATE connection SET provider_state = NULL WHERE trim(provider_state) = '';

-- part: connections of OpenAPI get the common form
-- needs: connection.provider_state
UPDATE connection SET provider = 'oauth2', provider_state = json_object(
    'kind', CASE json_extract(provider_state, '$.flow')
        WHEN 'authorizationCode' THEN 'authorization-code' ELSE 'client-credentials' END,
    'tokenEndpoint', json_extract(provider_state, '$.tokenUrl'),
    'issuerUrl', NULL,
    'clientIdSecretId', json_extract(provider_state, '$.clientIdSecretId'),
    'clientSecretSecretId', CASE json_extract(provider_state, '$.flow')
        WHEN 'clientCredentials' THEN coalesce(json_extract(provider_state, '$.clientSecretSecretId'), '')
        ELSE json_extract(provider_state, '$.clientSecretSecretId') END,
    'clientAuth', 'body',
    'scopes', json(CASE WHEN json_extract(provider_state, '$.scopes') IS NULL THEN '[]'
        ELSE provider_state -> '$.scopes' END),
    'scope', scope)
WHERE provider = 'openapi:oauth2'
    AND CASE WHEN json_valid(provider_state, 2) THEN json_extract(provider_state, '$.flow') END
        IN ('authorizationCode', 'clientCredentials');

-- part: what connections of MCP lose
-- needs: connection.provider_state
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'metadata-dropped', '"' || id || '" of scope "' || scope_id || '"' FROM connection
WHERE provider = 'mcp:oauth2' AND CASE WHEN json_valid(provider_state, 2)
    THEN json_extract(provider_state, '$.authorizationServerMetadata') END IS NOT NULL;

-- part: connections of MCP get the common form
-- needs: connection.provider_state
UPDATE connection SET provider = 'oauth2', provider_state = json_object(
    'kind', 'dynamic-dcr',
    'tokenEndpoint', coalesce(json_extract(provider_state, '$.tokenEndpoint'),
        json_extract(provider_state, '$.authorizationServerMetadata.token_endpoint'), ''),
    'issuerUrl', json_extract(provider_state, '$.authorizationServerMetadata.issuer'),
    'authorizationServerUrl', json_extract(provider_state, '$.authorizationServerUrl'),
    'authorizationServerMetadataUrl',
        json_extract(provider_state, '$.authorizationServerMetadataUrl'),
    'idTokenSigningAlgValuesSupported', json(coalesce(provider_state ->
        '$.authorizationServerMetadata.id_token_signing_alg_values_supported', '[]')),
    'clientId', coalesce(json_extract(provider_state, '$.clientInformation.client_id'), ''),
    'clientSecretSecretId', NULL,
    'clientAuth', CASE json_extract(provider_state,
        '$.clientInformation.token_endpoint_auth_method')
        WHEN 'client_secret_basic' THEN 'basic' ELSE 'body' END,
    'scopes', json('[]'),
    'scope', scope,
    'resource', json_extract(provider_state, '$.endpoint'))
WHERE provider = 'mcp:oauth2' AND (provider_state IS NULL OR json_valid(provider_state, 2));

-- part: connections of Google get the common form
-- needs: connection.provider_state
UPDATE connection SET provider = 'oauth2', provider_state = json_object(
    'kind', 'authorization-code',
    'tokenEndpoint', 'https://oauth2.googleapis.com/token',
    'issuerUrl', 'https://accounts.google.com',
    'clientIdSecretId', json_extract(provider_state, '$.clientIdSecretId'),
    'clientSecretSecretId', json_extract(provider_state, '$.clientSecretSecretId'),
    'clientAuth', 'body',
    'scopes', json(CASE WHEN json_extract(provider_state, '$.scopes') IS NULL THEN '[]'
        ELSE provider_state -> '$.scopes' END),
    'scope', scope)
WHERE provider IN ('google-discovery:google', 'google-discovery:oauth2')
    AND (provider_state IS NULL OR json_valid(provider_state, 2));

-- part: headers of OpenAPI
-- needs: openapi_source.headers
-- lacks: openapi_source_header
CREATE TABLE openapi_source_header (id text NOT NULL, scope_id text NOT NULL,
    source_id text NOT NULL, name text NOT NULL, kind text NOT NULL, text_value text,
    slot_key text, prefix text, PRIMARY KEY (scope_id, id));

-- part: headers of OpenAPI that say so and would share a slot
-- needs: openapi_source.headers
-- refuses: rows
SELECT 'openapi_source', 'scope "' || scope_id || '" id "' || id || '"', 'headers',
    'the headers ' || group_concat(name, ' and ') || ' both want the slot ' || slot
FROM openapi_header_member WHERE type = 'object' AND kind = 'secret' AND secret_id IS NOT NULL
GROUP BY scope_id, id, slot HAVING count(*) > 1;

-- part: header secrets of OpenAPI that say so
-- needs: openapi_source.headers, openapi_source_header, credential_binding
INSERT OR IGNORE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('openapi', s.scope_id, s.id, s.slot), s.scope_id, 'openapi', s.id, s.scope_id,
    s.slot, 'secret', NULL, s.secret_id, NULL, replay_now(), replay_now()
FROM openapi_header_member s WHERE s.type = 'object' AND s.secret_id IS NOT NULL AND coalesce(s.kind, 'secret') = 'secret'
    AND NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = s.scope_id
        AND b.plugin_id = 'openapi' AND b.source_id = s.id AND b.source_scope_id = s.scope_id
        AND b.slot_key = s.slot);

-- part: rows of openapi_source_header
-- needs: openapi_source.headers, openapi_source_header
INSERT OR REPLACE INTO openapi_source_header
    (id, scope_id, source_id, name, kind, text_value, slot_key, prefix)
SELECT json_array(id, name), scope_id, id, name,
    CASE WHEN type = 'text' OR kind = 'text' THEN 'text' ELSE 'binding' END,
    CASE WHEN type = 'text' THEN value WHEN kind = 'text' THEN json_extract(value, '$.text') END,
    CASE WHEN type = 'text' OR kind = 'text' THEN NULL
        WHEN kind = 'binding' THEN json_extract(value, '$.slot') ELSE slot END,
    CASE WHEN type = 'text' THEN NULL WHEN kind IS NULL THEN json_extract(value, '$.prefix')
        ELSE coalesce(json_extract(value, '$.prefix'), json_extract(value, '$.secretPrefix')) END
FROM openapi_header_member
WHERE type = 'text' OR kind IN ('binding', 'text') OR secret_id IS NOT NULL;
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'member-dropped', 'header "' || name || '" of source "' || id || '"'
FROM openapi_header_member
WHERE type <> 'text' AND coalesce(kind, '') NOT IN ('binding', 'text') AND secret_id IS NULL;

-- part: headers of OpenAPI are done
-- needs: openapi_source.headers
DROP VIEW openapi_header_member;
