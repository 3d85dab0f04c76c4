-- Which generation a catalogue is of.
SELECT CASE
    WHEN (SELECT count(*) FROM sqlite_master
          WHERE type = 'table' AND name IN ('meta', 'hosts', 'environments', 'operations')) < 4
        THEN 'foreign'
    WHEN user_version = 1 THEN 'old'
    WHEN user_version = 2 THEN 'current'
    WHEN user_version > 2 THEN 'newer'
    ELSE 'foreign'
END, 'it says that it is of generation ' || user_version
FROM pragma_user_version;
