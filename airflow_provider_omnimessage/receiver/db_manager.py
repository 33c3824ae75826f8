"""Lets ``airflow db migrate`` look after the receiver's tables, from Airflow 3.2 on."""

from __future__ import annotations

from typing import Any

from airflow.utils.db_manager import BaseDBManager

from airflow_provider_omnimessage.receiver import config, migrate
from airflow_provider_omnimessage.receiver.database import open_database
from airflow_provider_omnimessage.receiver.tables import VERSION_TABLE, metadata


class OmnimessageDBManager(BaseDBManager):
    """Make and migrate the receiver's tables in Airflow's database; nothing at all while the receiver is off there."""

    metadata = metadata
    version_table_name = VERSION_TABLE
    migration_dir = str(migrate.MIGRATIONS)
    alembic_file = str(migrate.ALEMBIC_FILE)
    supports_table_dropping = True

    def initdb(self, use_migration_files: bool = False) -> None:
        """Make the tables."""
        self.upgradedb()

    def create_db_from_orm(self) -> None:
        """Make the tables."""
        self.upgradedb()

    def upgradedb(self, *args: Any, show_sql_only: bool = False, **kwargs: Any) -> None:
        """Bring the tables up to date, under the same lock as the receiver itself."""
        if _is_here() and not show_sql_only:
            self._release_metadata_locks()
            migrate.migrate(open_database(None))

    def check_migration(self) -> bool:
        """Return whether the tables are up to date; a receiver that is off needs none."""
        return not _is_here() or migrate.current_revision(open_database(None)) == migrate.head()

    def _release_metadata_locks(self) -> None:
        # SQLite and MySQL would make the migration wait for what this session has read
        self.session.commit()


def _is_here() -> bool:
    return config.is_enabled() and not config.database_url()
