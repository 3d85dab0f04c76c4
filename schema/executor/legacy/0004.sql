-- Policies.

-- part: policies
-- lacks: tool_policy
CREATE TABLE tool_policy (id text NOT NULL, scope_id text NOT NULL, pattern text NOT NULL,
    action text NOT NULL, position text NOT NULL, created_at integer NOT NULL,
    updated_at integer NOT NULL, PRIMARY KEY (scope_id, id));
