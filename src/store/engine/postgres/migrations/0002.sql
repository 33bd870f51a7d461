-- What a store has that several gateways write to: a row for each stripe of an app, which is its lock
-- and changes with each group of updates, and a row for each app, which says who delivers it.
CREATE TABLE {schema}.course (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 50);
ALTER TABLE {schema}.course ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.app_lease (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 50);
ALTER TABLE {schema}.app_lease ALTER COLUMN value SET STORAGE EXTERNAL;
