-- The tables that every later step expects, should one be gone.
--
-- How these files are read: `part` starts a piece of work, which is skipped unless every column
-- (or table) after `needs` is there and the one after `lacks` is not. A part that `refuses` is a
-- query: each row of it (table, row, column, why) is a reason not to go on.

-- part: secrets
-- lacks: secret
CREATE TABLE secret (id text NOT NULL, scope_id text NOT NULL, name text NOT NULL,
    provider text NOT NULL, created_at integer NOT NULL, PRIMARY KEY (scope_id, id));

-- part: tools
-- lacks: tool
CREATE TABLE tool (id text NOT NULL, scope_id text NOT NULL, source_id text NOT NULL,
    plugin_id text NOT NULL, name text NOT NULL, description text NOT NULL, input_schema text,
    output_schema text, created_at integer NOT NULL, updated_at integer NOT NULL,
    PRIMARY KEY (scope_id, id));
