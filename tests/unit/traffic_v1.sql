-- A traffic database as the first version of Cascade made it. Never change it: it stands for those that are out there.
CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL UNIQUE,
    node TEXT NOT NULL,
    time REAL NOT NULL,
    request_id TEXT,
    text TEXT,
    messages TEXT,
    choices TEXT NOT NULL,
    context TEXT NOT NULL,
    output TEXT NOT NULL,
    rung TEXT NOT NULL,
    by_teacher INTEGER NOT NULL,
    confidence REAL,
    bundle_version TEXT NOT NULL,
    mode TEXT NOT NULL,
    attempts TEXT NOT NULL,
    usd REAL NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    latency_ms REAL NOT NULL,
    error TEXT
);
CREATE INDEX decisions_by_request ON decisions (node, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX decisions_by_time ON decisions (node, time);
CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY,
    outcome_id TEXT NOT NULL UNIQUE,
    decision_id TEXT NOT NULL,
    time REAL NOT NULL,
    output TEXT,
    is_right INTEGER
);
CREATE INDEX outcomes_by_decision ON outcomes (decision_id);
CREATE TABLE labelled (
    seq INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    id TEXT NOT NULL,
    text TEXT,
    messages TEXT,
    output TEXT NOT NULL,
    session TEXT,
    time REAL,
    imported_at REAL NOT NULL,
    UNIQUE (node, id)
);
PRAGMA user_version = 1;
INSERT INTO decisions VALUES (1, 'd1', 'n', 10.0, 'r1', 'hello', NULL, '[]', '{"session":"s"}', '"a"', 'linear', 0, 0.9, 'v1', 'live', '[]', 0.0, 0, 0, 1.5, NULL);
INSERT INTO decisions VALUES (2, 'd2', 'n', 11.0, NULL, NULL, '[["user","hi"]]', '["a","b"]', '{}', '"a"', 'frontier', 1, NULL, '', 'passthrough', '[]', 0.25, 3, 1, 700.0, NULL);
INSERT INTO outcomes VALUES (1, 'o1', 'd1', 12.0, '"b"', 0);
INSERT INTO labelled VALUES (1, 'n', 'i1', 'an import', NULL, '"a"', NULL, NULL, 13.0);
