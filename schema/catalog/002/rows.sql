-- The rows of generation 1. What belongs to a host that is gone stays in the backup.
INSERT INTO main.meta (name, value)
SELECT name, value
FROM old.meta;
INSERT INTO main.hosts (id, key_hash, created_at, seen_at, epoch, log, acked)
SELECT id, key_hash, created_at, seen_at, epoch, log, acked
FROM old.hosts;
INSERT INTO main.environments (host, id, status, attempt, incarnation, host_seq, host_phase, path, branch, error, retire_at,
    created_at, changed_at)
SELECT host, id, status, attempt, incarnation, host_seq, host_phase, path, branch, error, retire_at,
    created_at, changed_at
FROM old.environments
WHERE host IN (SELECT id FROM old.hosts);
INSERT INTO main.spent (host, id, incarnation, destroyed_at)
SELECT host, id, incarnation, destroyed_at
FROM old.spent
WHERE host IN (SELECT id FROM old.hosts);
INSERT INTO main.threads (host, id, environment, kind, holder, lease, active, error, created_at, renewed_at)
SELECT host, id, environment, kind, holder, lease, active, error, created_at, renewed_at
FROM old.threads
WHERE host IN (SELECT id FROM old.hosts);
INSERT INTO main.operations (id, host, environment, command, body, status, answer, created_at, ended_at, n)
SELECT id, host, environment, command, body, status, answer, created_at, ended_at, n
FROM old.operations
WHERE host IN (SELECT id FROM old.hosts);
