-- One table for each kind of key of src/store/keys.rs. Values are compact, or encrypted: to compress
-- them would cost time and save nothing. {schema} is put in by whoever runs this.
CREATE TABLE {schema}.app_state (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.app_state ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.batch (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.batch ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.delivery (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.delivery ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.in_flight (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.in_flight ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.forgotten (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.forgotten ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.head (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.head ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.job (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.job ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.job_page (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.job_page ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.dead_letter (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.dead_letter ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.dead_letter_index (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.dead_letter_index ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.name (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.name ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.pages_damaged (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.pages_damaged ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.page (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.page ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.pending (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.pending ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.rescue (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.rescue ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.held (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.held ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.quarantine (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.quarantine ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE {schema}.meta (key bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80);
ALTER TABLE {schema}.meta ALTER COLUMN value SET STORAGE EXTERNAL;
-- Who has the store, until when, and what tells that it is the same folder of the same machine.
CREATE TABLE {schema}.lease (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  holder text NOT NULL,
  place text NOT NULL,
  proof text NOT NULL,
  until timestamptz NOT NULL
);
INSERT INTO {schema}.lease (holder, place, proof, until) VALUES ('', '', '', '-infinity');

-- Each commit of the holder raises commits, and is refused where the token has gone to another.
CREATE TABLE {schema}.fence (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  token bigint NOT NULL,
  holder text NOT NULL,
  commits bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO {schema}.fence (token, holder, commits) VALUES (0, '', 0);

-- How much there is of what, app by app: SELECT * FROM {schema}.counts.
CREATE VIEW {schema}.counts AS
  SELECT kind, get_byte(key, 1) * 256 + get_byte(key, 2) AS app, count(*) AS entries FROM (
    SELECT 'pending' AS kind, key FROM {schema}.pending
    UNION ALL SELECT 'in_flight', key FROM {schema}.in_flight
    UNION ALL SELECT 'dead_letter', key FROM {schema}.dead_letter
    UNION ALL SELECT 'batch', key FROM {schema}.batch
  ) AS entry GROUP BY 1, 2;
