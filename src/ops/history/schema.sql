-- headframe's history: what each worker did in the last 24 hours, and its totals for ever.
-- Read it while headframe runs: sqlite3 -readonly history.db 'SELECT * FROM total'.
-- Times are seconds since 1970. Shares stand by the quarter of an hour in which they came.

CREATE TABLE meta (
    -- The quarter from which on shares are not in the worker's own row yet.
    open_from INTEGER NOT NULL
);
INSERT INTO meta VALUES (0);

CREATE TABLE worker (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    first_seen INTEGER NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0,
    difficulty REAL NOT NULL DEFAULT 0,
    difficulty_rejected REAL NOT NULL DEFAULT 0,
    blocks INTEGER NOT NULL DEFAULT 0,
    best REAL NOT NULL DEFAULT 0,
    last_share INTEGER
);

CREATE TABLE worker_rejected (
    worker INTEGER NOT NULL REFERENCES worker,
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (worker, reason)
) WITHOUT ROWID;

CREATE TABLE share (
    at INTEGER NOT NULL,
    worker INTEGER NOT NULL REFERENCES worker,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    difficulty_rejected REAL NOT NULL,
    blocks INTEGER NOT NULL,
    best REAL NOT NULL,
    last_share INTEGER,
    PRIMARY KEY (at, worker)
) WITHOUT ROWID;

CREATE TABLE rejected (
    at INTEGER NOT NULL,
    worker INTEGER NOT NULL REFERENCES worker,
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (at, worker, reason)
) WITHOUT ROWID;

CREATE TABLE block (
    hash TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    height INTEGER NOT NULL,
    worker TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT
);

CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    worker TEXT,
    says TEXT NOT NULL
);

CREATE VIEW total AS
SELECT name, first_seen,
    w.accepted + coalesce(s.accepted, 0) AS accepted,
    w.difficulty + coalesce(s.difficulty, 0) AS difficulty,
    w.difficulty_rejected + coalesce(s.difficulty_rejected, 0) AS difficulty_rejected,
    w.blocks + coalesce(s.blocks, 0) AS blocks,
    max(w.best, coalesce(s.best, 0)) AS best,
    coalesce(s.last_share, w.last_share) AS last_share
FROM worker w LEFT JOIN (
    SELECT worker, sum(accepted) AS accepted, sum(difficulty) AS difficulty,
        sum(difficulty_rejected) AS difficulty_rejected, sum(blocks) AS blocks,
        max(best) AS best, max(last_share) AS last_share
    FROM share WHERE at >= (SELECT open_from FROM meta) GROUP BY worker
) s ON s.worker = w.id;

CREATE VIEW total_rejected AS
SELECT name, reason, sum(count) AS count FROM (
    SELECT worker, reason, count FROM worker_rejected
    UNION ALL
    SELECT worker, reason, count FROM rejected WHERE at >= (SELECT open_from FROM meta)
) JOIN worker ON worker.id = worker GROUP BY name, reason;
