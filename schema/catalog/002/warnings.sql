-- What was not carried, because it belongs to a host that is gone.
SELECT 'thread ' || id || ' of host ' || host || ' was not carried: there is no such host'
FROM old.threads WHERE host NOT IN (SELECT id FROM old.hosts)
UNION ALL
SELECT 'the destroyed id ' || id || ' of host ' || host || ' was not carried: there is no such host'
FROM old.spent WHERE host NOT IN (SELECT id FROM old.hosts);
