"""All that is stored is encrypted by the current key."""

from __future__ import annotations

from collections.abc import Callable

from cascade.traffic.cipher import Cipher
from cascade.traffic.database import Database
from cascade.traffic.rows import Rows
from cascade.traffic.said import BESIDE, SAID

_BATCH = 500  # rows encrypted in one transaction: other writers wait meanwhile


def reseal(database: Database, cipher: Cipher, progress: Callable[[int], None] = lambda _: None) -> int:
    """Encrypt everything that was said by the current key: what was plain, and what older keys encrypted.

    Returns
    -------
    int
        Rows that changed.

    Raises
    ------
    StoreError
        A key is missing, or the database fails; what was done until then stays done.
    """
    rows = Rows(cipher)
    changed = 0
    places = {table: ("seq", id_, {c: c for c in columns}) for table, (id_, columns) in SAID.items()}
    for table, (number, id_column, columns) in (places | BESIDE).items():
        after = -1
        names = ", ".join((number, id_column, *columns))
        query = f"SELECT {names} FROM {table} WHERE {number} > ? ORDER BY {number} LIMIT {_BATCH}"
        statement = f"UPDATE {table} SET {', '.join(f'{c} = ?' for c in columns)} WHERE {number} = ?"
        while True:
            with database.writing() as connection:
                page = connection.execute(query, (after,)).fetchall()
                updates = []
                for seq, id_, *values in page:
                    named = zip(columns.values(), values, strict=True)
                    new = [rows.resealed(value, name, id_) for name, value in named]
                    if new != list(values):
                        updates.append((*new, seq))
                if updates:
                    connection.executemany(statement, updates)
            changed += len(updates)
            if len(page) < _BATCH:
                break
            after = page[-1][0]
            progress(changed)
    database.reclaim([*SAID, *BESIDE])  # whatever changed now, for the same reason as in `erase`
    return changed
