-- Clients of OpenAPI connections: their bindings say what the connections say.

-- part: connections of OpenAPI that kept their old provider
-- needs: connection.provider_state
UPDATE connection SET provider = 'oauth2' WHERE provider = 'openapi:oauth2'
    AND CASE WHEN json_valid(provider_state, 2)
        THEN json_extract(provider_state, '$.kind') END IS NOT NULL;

-- part: client ids
-- needs: credential_binding, openapi_source.oauth2, connection.provider_state
CREATE TEMP TABLE openapi_client AS
SELECT b.rowid AS at, b.id, b.scope_id, b.source_id, b.source_scope_id, b.created_at,
    json_extract(c.provider_state, '$.clientIdSecretId') AS secret_id,
    json_extract(s.oauth2, '$.clientIdSlot') AS slot
FROM credential_binding b
    CROSS JOIN openapi_source s ON s.scope_id = b.source_scope_id AND s.id = b.source_id
    CROSS JOIN connection c ON c.scope_id = b.scope_id AND c.id = b.connection_id
WHERE b.plugin_id = 'openapi' AND b.kind = 'connection' AND s.oauth2 IS NOT NULL
    AND c.provider = 'oauth2' AND coalesce(CASE WHEN json_valid(c.provider_state, 2)
        THEN json_extract(c.provider_state, '$.clientIdSecretId') END, '') <> ''
    AND json_extract(s.oauth2, '$.clientIdSlot') IS NOT NULL;
UPDATE credential_binding SET updated_at = replay_now(), secret_id = (
    SELECT o.secret_id FROM openapi_client o
    WHERE o.scope_id = credential_binding.scope_id AND o.source_id = credential_binding.source_id
        AND o.source_scope_id = credential_binding.source_scope_id
        AND o.slot = credential_binding.slot_key ORDER BY o.at LIMIT 1)
WHERE plugin_id = 'openapi' AND kind = 'secret' AND EXISTS (
    SELECT 1 FROM openapi_client o
    WHERE o.scope_id = credential_binding.scope_id AND o.source_id = credential_binding.source_id
        AND o.source_scope_id = credential_binding.source_scope_id
        AND o.slot = credential_binding.slot_key);
INSERT OR IGNORE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('oconn-openapi-oauth-client', o.id, o.scope_id, o.slot), o.scope_id, 'openapi', o.source_id,
    o.source_scope_id, o.slot, 'secret', NULL, o.secret_id, NULL, o.created_at, replay_now()
FROM openapi_client o
WHERE NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = o.scope_id
    AND b.plugin_id = 'openapi' AND b.source_id = o.source_id
    AND b.source_scope_id = o.source_scope_id AND b.slot_key = o.slot)
ORDER BY o.at;
DROP TABLE openapi_client;

-- part: client secrets
-- needs: credential_binding, openapi_source.oauth2, connection.provider_state
CREATE TEMP TABLE openapi_client AS
SELECT b.rowid AS at, b.id, b.scope_id, b.source_id, b.source_scope_id, b.created_at,
    json_extract(c.provider_state, '$.clientSecretSecretId') AS secret_id,
    json_extract(s.oauth2, '$.clientSecretSlot') AS slot
FROM credential_binding b
    CROSS JOIN openapi_source s ON s.scope_id = b.source_scope_id AND s.id = b.source_id
    CROSS JOIN connection c ON c.scope_id = b.scope_id AND c.id = b.connection_id
WHERE b.plugin_id = 'openapi' AND b.kind = 'connection' AND s.oauth2 IS NOT NULL
    AND c.provider = 'oauth2' AND coalesce(CASE WHEN json_valid(c.provider_state, 2)
        THEN json_extract(c.provider_state, '$.clientSecretSecretId') END, '') <> ''
    AND json_extract(s.oauth2, '$.clientSecretSlot') IS NOT NULL;
UPDATE credential_binding SET updated_at = replay_now(), secret_id = (
    SELECT o.secret_id FROM openapi_client o
    WHERE o.scope_id = credential_binding.scope_id AND o.source_id = credential_binding.source_id
        AND o.source_scope_id = credential_binding.source_scope_id
        AND o.slot = credential_binding.slot_key ORDER BY o.at LIMIT 1)
WHERE plugin_id = 'openapi' AND kind = 'secret' AND EXISTS (
    SELECT 1 FROM openapi_client o
    WHERE o.scope_id = credential_binding.scope_id AND o.source_id = credential_binding.source_id
        AND o.source_scope_id = credential_binding.source_scope_id
        AND o.slot = credential_binding.slot_key);
INSERT OR IGNORE INTO credential_binding
    (id, scope_id, plugin_id, source_id, source_scope_id, slot_key, kind, text_value, secret_id,
    connection_id, created_at, updated_at)
SELECT json_array('oconn-openapi-oauth-secret', o.id, o.scope_id, o.slot), o.scope_id, 'openapi', o.source_id,
    o.source_scope_id, o.slot, 'secret', NULL, o.secret_id, NULL, o.created_at, replay_now()
FROM openapi_client o
WHERE NOT EXISTS (SELECT 1 FROM credential_binding b WHERE b.scope_id = o.scope_id
    AND b.plugin_id = 'openapi' AND b.source_id = o.source_id
    AND b.source_scope_id = o.source_scope_id AND b.slot_key = o.slot)
ORDER BY o.at;
DROP TABLE openapi_client;
