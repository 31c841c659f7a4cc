"""The tables of operational state as numbered steps; a released step is never edited."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """One step; its statements run in one transaction."""

    number: int
    title: str
    statements: tuple[str, ...]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "watermarks, gaps and bindings",
        (
            """CREATE TABLE watermarks (
                cluster TEXT NOT NULL,
                subject TEXT NOT NULL,
                answered_ms INTEGER NOT NULL,
                data_until_ms INTEGER,
                first_data_ms INTEGER,
                PRIMARY KEY (cluster, subject)
            ) WITHOUT ROWID""",
            """CREATE TABLE gaps (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                cluster TEXT NOT NULL,
                subject TEXT NOT NULL,
                start_ms INTEGER NOT NULL,
                end_ms INTEGER NOT NULL CHECK (end_ms > start_ms),
                reason TEXT NOT NULL,
                recorded_ms INTEGER NOT NULL,
                closed_ms INTEGER,
                evidence TEXT NOT NULL DEFAULT ''
            )""",
            "CREATE INDEX gaps_open ON gaps (cluster, subject) WHERE closed_ms IS NULL",
            """CREATE TABLE bindings (
                cluster TEXT NOT NULL,
                metric TEXT NOT NULL,
                candidates TEXT NOT NULL,
                quality TEXT NOT NULL,
                reason TEXT NOT NULL,
                probed_ms INTEGER NOT NULL,
                PRIMARY KEY (cluster, metric)
            ) WITHOUT ROWID""",
        ),
    ),
    Migration(
        2,
        "alerts and notifications",
        (
            """CREATE TABLE alerts (
                rule TEXT NOT NULL,
                labels TEXT NOT NULL,
                state TEXT NOT NULL,
                value TEXT NOT NULL,
                annotations TEXT NOT NULL,
                active_at_ms INTEGER NOT NULL,
                fired_at_ms INTEGER NOT NULL,
                keep_firing_since_ms INTEGER NOT NULL,
                resolved_at_ms INTEGER NOT NULL,
                held_since_ms INTEGER NOT NULL,
                reason TEXT NOT NULL,
                PRIMARY KEY (rule, labels)
            ) WITHOUT ROWID""",
            """CREATE TABLE notification_groups (
                receiver TEXT NOT NULL,
                group_key TEXT NOT NULL,
                notified_ms INTEGER NOT NULL,
                firing TEXT NOT NULL,
                resolved TEXT NOT NULL,
                PRIMARY KEY (receiver, group_key)
            ) WITHOUT ROWID""",
            """CREATE TABLE notifications (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                receiver TEXT NOT NULL,
                group_key TEXT NOT NULL,
                body BLOB NOT NULL,
                created_ms INTEGER NOT NULL,
                attempts INTEGER NOT NULL,
                next_ms INTEGER NOT NULL
            )""",
            "CREATE INDEX notifications_waiting ON notifications (receiver, group_key, id)",
        ),
    ),
    Migration(
        3,
        "what became of a binding",
        (
            "ALTER TABLE bindings ADD COLUMN standing TEXT NOT NULL DEFAULT 'bound'",
            "ALTER TABLE bindings ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE bindings ADD COLUMN previous TEXT NOT NULL DEFAULT ''",
            "UPDATE bindings SET standing = 'never' WHERE candidates = ''",
            "UPDATE bindings SET since_ms = probed_ms",
        ),
    ),
)
