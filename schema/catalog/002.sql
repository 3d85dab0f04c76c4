-- Generation 2 of the control server's catalogue: hosts, their environments, threads, operations.
-- Times are milliseconds since 1970. A destroyed environment's row may be pruned; its id is not.
-- What belongs to a host goes with it.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hosts (
    id         TEXT PRIMARY KEY,
    key_hash   BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER,
    -- Counts changes of the host's live set.
    epoch      INTEGER NOT NULL DEFAULT 0,
    -- The host's log and how much of it has been taken in.
    log        TEXT,
    acked      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE environments (
    host        TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    id          TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (
        status IN ('provisioning', 'ready', 'retiring', 'error', 'destroying', 'destroyed')),
    -- The operation that may change it now; results of others come too late.
    attempt     TEXT,
    incarnation INTEGER NOT NULL DEFAULT 0,
    -- The host's record that was heard of last.
    host_seq    INTEGER NOT NULL DEFAULT 0,
    -- The phase that the host said it was in then.
    host_phase  TEXT NOT NULL DEFAULT '',
    path        TEXT,
    branch      TEXT,
    error       TEXT,
    retire_at   INTEGER,
    created_at  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    PRIMARY KEY (host, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX environments_by_status ON environments (status, changed_at);

-- Ids that were destroyed and whose rows are gone.
CREATE TABLE spent (
    host         TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    id           TEXT NOT NULL,
    incarnation  INTEGER NOT NULL,
    destroyed_at INTEGER NOT NULL,
    PRIMARY KEY (host, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE threads (
    host        TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    id          TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind        TEXT NOT NULL,
    -- Who answers for it; none when nobody is registered.
    holder      TEXT,
    lease       TEXT NOT NULL,
    active      INTEGER NOT NULL,
    error       TEXT,
    created_at  INTEGER NOT NULL,
    renewed_at  INTEGER NOT NULL,
    PRIMARY KEY (host, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX threads_by_environment ON threads (host, environment, active);

CREATE TABLE operations (
    id          TEXT PRIMARY KEY,
    host        TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    environment TEXT NOT NULL,
    command     TEXT NOT NULL,
    body        TEXT NOT NULL,
    -- The HTTP status of its answer; none while it is under way.
    status      INTEGER,
    answer      TEXT,
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    -- The order in which they were asked for.
    n           INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;

CREATE INDEX operations_under_way ON operations (host, n) WHERE status IS NULL;
CREATE INDEX operations_over ON operations (ended_at) WHERE status IS NOT NULL;
