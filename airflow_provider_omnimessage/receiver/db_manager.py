"""Lets ``airflow db migrate`` manage the receiver's tables (Airflow 3.2 and newer)."""

from __future__ import annotations

from airflow.utils.db_manager import BaseDBManager

from airflow_provider_omnimessage.receiver import config, migrate
from airflow_provider_omnimessage.receiver.database import open_database
from airflow_provider_omnimessage.receiver.tables import VERSION_TABLE, metadata


class OmnimessageDBManager(BaseDBManager):
    """Creates and migrates the receiver's tables in Airflow's database, if the receiver uses it."""

    metadata = metadata
    version_table_name = VERSION_TABLE
    migration_dir = str(migrate.MIGRATIONS)
    alembic_file = str(migrate.ALEMBIC_FILE)
    supports_table_dropping = True

    def initdb(self, use_migration_files: bool = False) -> None:
        """Create the tables."""
        self.upgradedb()

    def create_db_from_orm(self) -> None:
        """Create the tables."""
        self.upgradedb()

    def upgradedb(self, *args: object, show_sql_only: bool = False, **kwargs: object) -> None:
        """Migrate the tables, under the same lock as the receiver itself."""
        if _uses_airflow_database() and not show_sql_only:
            self._release_metadata_locks()
            migrate.migrate(open_database(None))

    def check_migration(self) -> bool:
        """Return whether the tables are up to date, or not needed."""
        return not _uses_airflow_database() or migrate.current_revision(open_database(None)) == migrate.head()

    def _release_metadata_locks(self) -> None:
        # on SQLite and MySQL, the migration would wait for this session's reads
        self.session.commit()


def _uses_airflow_database() -> bool:
    try:
        return config.is_enabled() and not config.database_url()
    except config.OptionError:  # the API server reports it, and Airflow's own tables must be migrated anyway
        return False
