-- What plugins know of their sources moves into one table; their own tables go.

-- part: JSON of openapi_operation.binding
-- needs: openapi_operation.binding
-- refuses: rows
SELECT 'openapi_operation', 'scope "' || scope_id || '" id "' || id || '"', 'binding', 'not JSON'
FROM openapi_operation WHERE NOT json_valid(binding, 2);

-- part: JSON of graphql_operation.binding
-- needs: graphql_operation.binding
-- refuses: rows
SELECT 'graphql_operation', 'scope "' || scope_id || '" id "' || id || '"', 'binding', 'not JSON'
FROM graphql_operation WHERE NOT json_valid(binding, 2);

-- part: JSON of mcp_binding.binding
-- needs: mcp_binding.binding
-- refuses: rows
SELECT 'mcp_binding', 'scope "' || scope_id || '" id "' || id || '"', 'binding', 'not JSON'
FROM mcp_binding WHERE NOT json_valid(binding, 2);

-- part: JSON of mcp_source.config
-- needs: mcp_source.config
-- refuses: rows
SELECT 'mcp_source', 'scope "' || scope_id || '" id "' || id || '"', 'config', 'not JSON'
FROM mcp_source WHERE NOT json_valid(config, 2);

-- part: JSON of openapi_source.oauth2
-- needs: openapi_source.oauth2
-- refuses: rows
SELECT 'openapi_source', 'scope "' || scope_id || '" id "' || id || '"', 'oauth2', 'not JSON'
FROM openapi_source WHERE oauth2 IS NOT NULL AND NOT json_valid(oauth2, 2);

-- A source must not be lost because a table or column beside it is gone: a missing table counts as
-- empty, a missing column as NULL.

-- part: openapi_source_header, if it is gone
-- needs: openapi_source
-- lacks: openapi_source_header
CREATE TABLE openapi_source_header (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: openapi_source_header.slot_key, if it is gone
-- needs: openapi_source_header
-- lacks: openapi_source_header.slot_key
ALTER TABLE openapi_source_header ADD COLUMN slot_key text;

-- part: openapi_source_header.prefix, if it is gone
-- needs: openapi_source_header
-- lacks: openapi_source_header.prefix
ALTER TABLE openapi_source_header ADD COLUMN prefix text;

-- part: openapi_source_query_param, if it is gone
-- needs: openapi_source
-- lacks: openapi_source_query_param
CREATE TABLE openapi_source_query_param (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: openapi_source_query_param.slot_key, if it is gone
-- needs: openapi_source_query_param
-- lacks: openapi_source_query_param.slot_key
ALTER TABLE openapi_source_query_param ADD COLUMN slot_key text;

-- part: openapi_source_query_param.prefix, if it is gone
-- needs: openapi_source_query_param
-- lacks: openapi_source_query_param.prefix
ALTER TABLE openapi_source_query_param ADD COLUMN prefix text;

-- part: openapi_source_spec_fetch_header, if it is gone
-- needs: openapi_source
-- lacks: openapi_source_spec_fetch_header
CREATE TABLE openapi_source_spec_fetch_header (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: openapi_source_spec_fetch_header.slot_key, if it is gone
-- needs: openapi_source_spec_fetch_header
-- lacks: openapi_source_spec_fetch_header.slot_key
ALTER TABLE openapi_source_spec_fetch_header ADD COLUMN slot_key text;

-- part: openapi_source_spec_fetch_header.prefix, if it is gone
-- needs: openapi_source_spec_fetch_header
-- lacks: openapi_source_spec_fetch_header.prefix
ALTER TABLE openapi_source_spec_fetch_header ADD COLUMN prefix text;

-- part: openapi_source_spec_fetch_query_param, if it is gone
-- needs: openapi_source
-- lacks: openapi_source_spec_fetch_query_param
CREATE TABLE openapi_source_spec_fetch_query_param (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: openapi_source_spec_fetch_query_param.slot_key, if it is gone
-- needs: openapi_source_spec_fetch_query_param
-- lacks: openapi_source_spec_fetch_query_param.slot_key
ALTER TABLE openapi_source_spec_fetch_query_param ADD COLUMN slot_key text;

-- part: openapi_source_spec_fetch_query_param.prefix, if it is gone
-- needs: openapi_source_spec_fetch_query_param
-- lacks: openapi_source_spec_fetch_query_param.prefix
ALTER TABLE openapi_source_spec_fetch_query_param ADD COLUMN prefix text;

-- part: graphql_source_header, if it is gone
-- needs: graphql_source
-- lacks: graphql_source_header
CREATE TABLE graphql_source_header (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: graphql_source_header.slot_key, if it is gone
-- needs: graphql_source_header
-- lacks: graphql_source_header.slot_key
ALTER TABLE graphql_source_header ADD COLUMN slot_key text;

-- part: graphql_source_header.prefix, if it is gone
-- needs: graphql_source_header
-- lacks: graphql_source_header.prefix
ALTER TABLE graphql_source_header ADD COLUMN prefix text;

-- part: graphql_source_query_param, if it is gone
-- needs: graphql_source
-- lacks: graphql_source_query_param
CREATE TABLE graphql_source_query_param (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: graphql_source_query_param.slot_key, if it is gone
-- needs: graphql_source_query_param
-- lacks: graphql_source_query_param.slot_key
ALTER TABLE graphql_source_query_param ADD COLUMN slot_key text;

-- part: graphql_source_query_param.prefix, if it is gone
-- needs: graphql_source_query_param
-- lacks: graphql_source_query_param.prefix
ALTER TABLE graphql_source_query_param ADD COLUMN prefix text;

-- part: mcp_source_header, if it is gone
-- needs: mcp_source
-- lacks: mcp_source_header
CREATE TABLE mcp_source_header (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: mcp_source_header.slot_key, if it is gone
-- needs: mcp_source_header
-- lacks: mcp_source_header.slot_key
ALTER TABLE mcp_source_header ADD COLUMN slot_key text;

-- part: mcp_source_header.prefix, if it is gone
-- needs: mcp_source_header
-- lacks: mcp_source_header.prefix
ALTER TABLE mcp_source_header ADD COLUMN prefix text;

-- part: mcp_source_query_param, if it is gone
-- needs: mcp_source
-- lacks: mcp_source_query_param
CREATE TABLE mcp_source_query_param (id text, scope_id text, source_id text, name text, kind text,
    text_value text, slot_key text, prefix text);

-- part: mcp_source_query_param.slot_key, if it is gone
-- needs: mcp_source_query_param
-- lacks: mcp_source_query_param.slot_key
ALTER TABLE mcp_source_query_param ADD COLUMN slot_key text;

-- part: mcp_source_query_param.prefix, if it is gone
-- needs: mcp_source_query_param
-- lacks: mcp_source_query_param.prefix
ALTER TABLE mcp_source_query_param ADD COLUMN prefix text;

-- part: openapi_source.source_url, if it is gone
-- needs: openapi_source
-- lacks: openapi_source.source_url
ALTER TABLE openapi_source ADD COLUMN source_url text;

-- part: openapi_source.base_url, if it is gone
-- needs: openapi_source
-- lacks: openapi_source.base_url
ALTER TABLE openapi_source ADD COLUMN base_url text;

-- part: openapi_source.oauth2, if it is gone
-- needs: openapi_source
-- lacks: openapi_source.oauth2
ALTER TABLE openapi_source ADD COLUMN oauth2 text;

-- part: graphql_source.auth_connection_slot, if it is gone
-- needs: graphql_source
-- lacks: graphql_source.auth_connection_slot
ALTER TABLE graphql_source ADD COLUMN auth_connection_slot text;

-- part: mcp_source.auth_header_name, if it is gone
-- needs: mcp_source
-- lacks: mcp_source.auth_header_name
ALTER TABLE mcp_source ADD COLUMN auth_header_name text;

-- part: mcp_source.auth_header_slot, if it is gone
-- needs: mcp_source
-- lacks: mcp_source.auth_header_slot
ALTER TABLE mcp_source ADD COLUMN auth_header_slot text;

-- part: mcp_source.auth_header_prefix, if it is gone
-- needs: mcp_source
-- lacks: mcp_source.auth_header_prefix
ALTER TABLE mcp_source ADD COLUMN auth_header_prefix text;

-- part: mcp_source.auth_connection_slot, if it is gone
-- needs: mcp_source
-- lacks: mcp_source.auth_connection_slot
ALTER TABLE mcp_source ADD COLUMN auth_connection_slot text;

-- part: mcp_source.auth_client_id_slot, if it is gone
-- needs: mcp_source
-- lacks: mcp_source.auth_client_id_slot
ALTER TABLE mcp_source ADD COLUMN auth_client_id_slot text;

-- part: mcp_source.auth_client_secret_slot, if it is gone
-- needs: mcp_source
-- lacks: mcp_source.auth_client_secret_slot
ALTER TABLE mcp_source ADD COLUMN auth_client_secret_slot text;

-- part: graphql_source.auth_kind, if it is gone
-- needs: graphql_source
-- lacks: graphql_source.auth_kind
ALTER TABLE graphql_source ADD COLUMN auth_kind text DEFAULT 'none' NOT NULL;

-- part: mcp_source.auth_kind, if it is gone
-- needs: mcp_source
-- lacks: mcp_source.auth_kind
ALTER TABLE mcp_source ADD COLUMN auth_kind text DEFAULT 'none' NOT NULL;

-- part: storage
-- lacks: plugin_storage
CREATE TABLE plugin_storage (id text NOT NULL, scope_id text NOT NULL, plugin_id text NOT NULL,
    collection text NOT NULL, key text NOT NULL, data text NOT NULL, created_at integer NOT NULL,
    updated_at integer NOT NULL, PRIMARY KEY (scope_id, id));

-- part: sources of OpenAPI
-- needs: openapi_source
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'row-replaced', 'openapi_source "' || id || '" of scope "' || scope_id || '"'
FROM openapi_source GROUP BY scope_id, id HAVING count(*) > 1;
INSERT OR REPLACE INTO plugin_storage (id, scope_id, plugin_id, collection, key, data, created_at, updated_at)
SELECT json_array('openapi', 'source', s.id), s.scope_id, 'openapi', 'source', s.id,
    json_object('namespace', s.id, 'scope', s.scope_id, 'name', s.name, 'config', json(json_patch(
    json_object('spec', s.spec), json_object(
    'sourceUrl', s.source_url,
    'baseUrl', s.base_url,
    'headers', json(CASE WHEN EXISTS (SELECT 1 FROM openapi_source_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM openapi_source_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        END),
    'queryParams', json(CASE WHEN EXISTS (SELECT 1 FROM openapi_source_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM openapi_source_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        END),
    'specFetchCredentials', json(CASE WHEN EXISTS (SELECT 1 FROM openapi_source_spec_fetch_header c
            WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        OR EXISTS (SELECT 1 FROM openapi_source_spec_fetch_query_param c
            WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN json_object('headers', json(CASE WHEN EXISTS (SELECT 1 FROM openapi_source_spec_fetch_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM openapi_source_spec_fetch_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        END),
    'queryParams', json(CASE WHEN EXISTS (SELECT 1 FROM openapi_source_spec_fetch_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM openapi_source_spec_fetch_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        END)) END),
    'oauth2', json(s.oauth2))))),
    replay_now(), replay_now()
FROM openapi_source s;

-- part: operations of OpenAPI
-- needs: openapi_operation
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'row-replaced', 'openapi_operation "' || id || '" of scope "' || scope_id || '"'
FROM openapi_operation GROUP BY scope_id, id HAVING count(*) > 1;
INSERT OR REPLACE INTO plugin_storage (id, scope_id, plugin_id, collection, key, data, created_at, updated_at)
SELECT json_array('openapi', 'operation', id), scope_id, 'openapi', 'operation', id,
    json_object('toolId', id, 'sourceId', source_id, 'binding', json(binding)), replay_now(),
    replay_now()
FROM openapi_operation;

-- part: sources of GraphQL
-- needs: graphql_source
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'row-replaced', 'graphql_source "' || id || '" of scope "' || scope_id || '"'
FROM graphql_source GROUP BY scope_id, id HAVING count(*) > 1;
INSERT OR REPLACE INTO plugin_storage (id, scope_id, plugin_id, collection, key, data, created_at, updated_at)
SELECT json_array('graphql', 'source', s.id), s.scope_id, 'graphql', 'source', s.id,
    json_object('namespace', s.id, 'scope', s.scope_id, 'name', s.name, 'endpoint', s.endpoint,
    'headers', json(CASE WHEN EXISTS (SELECT 1 FROM graphql_source_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM graphql_source_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        ELSE '{}' END),
    'queryParams', json(CASE WHEN EXISTS (SELECT 1 FROM graphql_source_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM graphql_source_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        ELSE '{}' END),
    'auth', json(CASE WHEN s.auth_kind = 'oauth2' AND s.auth_connection_slot IS NOT NULL
        THEN json_object('kind', 'oauth2', 'connectionSlot', s.auth_connection_slot)
        ELSE json_object('kind', 'none') END)),
    replay_now(), replay_now()
FROM graphql_source s;

-- part: operations of GraphQL
-- needs: graphql_operation
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'row-replaced', 'graphql_operation "' || id || '" of scope "' || scope_id || '"'
FROM graphql_operation GROUP BY scope_id, id HAVING count(*) > 1;
INSERT OR REPLACE INTO plugin_storage (id, scope_id, plugin_id, collection, key, data, created_at, updated_at)
SELECT json_array('graphql', 'operation', id), scope_id, 'graphql', 'operation', id,
    json_object('toolId', id, 'sourceId', source_id, 'binding', json(binding)), replay_now(),
    replay_now()
FROM graphql_operation;

-- part: sources of MCP
-- needs: mcp_source
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'row-replaced', 'mcp_source "' || id || '" of scope "' || scope_id || '"'
FROM mcp_source GROUP BY scope_id, id HAVING count(*) > 1;
INSERT OR REPLACE INTO plugin_storage (id, scope_id, plugin_id, collection, key, data, created_at, updated_at)
SELECT json_array('mcp', 'source', s.id), s.scope_id, 'mcp', 'source', s.id,
    json_object('namespace', s.id, 'scope', s.scope_id, 'name', s.name, 'config', json(
    CASE WHEN json_extract(s.config, '$.transport') = 'remote'
        THEN json_patch(s.config, json_patch('{}', json_object(
    'headers', json(CASE WHEN EXISTS (SELECT 1 FROM mcp_source_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM mcp_source_header c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        END),
    'queryParams', json(CASE WHEN EXISTS (SELECT 1 FROM mcp_source_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        THEN (SELECT json_group_object(c.name, json(CASE c.kind WHEN 'text' THEN json_quote(c.text_value)
            ELSE json_object('kind', 'binding', 'slot', c.slot_key, 'prefix', c.prefix) END)
            ORDER BY c.rowid) FROM mcp_source_query_param c WHERE c.scope_id = s.scope_id AND c.source_id = s.id)
        END),
    'auth', json(CASE s.auth_kind
        WHEN 'header' THEN json_object('kind', 'header',
            'headerName', coalesce(s.auth_header_name, ''), 'secretSlot', s.auth_header_slot,
            'prefix', s.auth_header_prefix)
        WHEN 'oauth2' THEN json_object('kind', 'oauth2',
            'connectionSlot', s.auth_connection_slot, 'clientIdSlot', s.auth_client_id_slot,
            'clientSecretSlot', s.auth_client_secret_slot)
        ELSE json_object('kind', 'none') END))))
        ELSE s.config END)),
    replay_now(), replay_now()
FROM mcp_source s;

-- part: tools of MCP
-- needs: mcp_binding
INSERT INTO groundskeeper_replay_losses (cause, name)
SELECT 'row-replaced', 'mcp_binding "' || id || '" of scope "' || scope_id || '"'
FROM mcp_binding GROUP BY scope_id, id HAVING count(*) > 1;
INSERT OR REPLACE INTO plugin_storage (id, scope_id, plugin_id, collection, key, data, created_at, updated_at)
SELECT json_array('mcp', 'binding', id), scope_id, 'mcp', 'binding', id,
    json_object('namespace', source_id, 'toolId', id, 'binding', json(binding)),
    coalesce(created_at, replay_now()), replay_now()
FROM mcp_binding;

-- part: openapi_source is done
-- needs: openapi_source
DROP TABLE openapi_source;

-- part: openapi_operation is done
-- needs: openapi_operation
DROP TABLE openapi_operation;

-- part: openapi_source_binding is done
-- needs: openapi_source_binding
DROP TABLE openapi_source_binding;

-- part: openapi_source_header is done
-- needs: openapi_source_header
DROP TABLE openapi_source_header;

-- part: graphql_source_header is done
-- needs: graphql_source_header
DROP TABLE graphql_source_header;

-- part: graphql_source_query_param is done
-- needs: graphql_source_query_param
DROP TABLE graphql_source_query_param;

-- part: openapi_source_query_param is done
-- needs: openapi_source_query_param
DROP TABLE openapi_source_query_param;

-- part: openapi_source_spec_fetch_header is done
-- needs: openapi_source_spec_fetch_header
DROP TABLE openapi_source_spec_fetch_header;

-- part: openapi_source_spec_fetch_query_param is done
-- needs: openapi_source_spec_fetch_query_param
DROP TABLE openapi_source_spec_fetch_query_param;

-- part: mcp_source_header is done
-- needs: mcp_source_header
DROP TABLE mcp_source_header;

-- part: mcp_source_query_param is done
-- needs: mcp_source_query_param
DROP TABLE mcp_source_query_param;

-- part: graphql_source is done
-- needs: graphql_source
DROP TABLE graphql_source;

-- part: graphql_operation is done
-- needs: graphql_operation
DROP TABLE graphql_operation;

-- part: mcp_source is done
-- needs: mcp_source
DROP TABLE mcp_source;

-- part: mcp_binding is done
-- needs: mcp_binding
DROP TABLE mcp_binding;
