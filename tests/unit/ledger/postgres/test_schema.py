"""Which revisions the code knows, told by the names of the migrations."""

from alembic.script import ScriptDirectory

from ledger.postgres.alembic_run import _configuration
from ledger.postgres.schema import head, known


def test_revisions_told_by_file_names_are_those_of_alembic() -> None:
    script = ScriptDirectory.from_config(_configuration())
    assert known() == [revision.revision for revision in reversed(list(script.walk_revisions()))]
    assert head() == script.get_current_head()
