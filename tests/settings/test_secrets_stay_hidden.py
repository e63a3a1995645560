import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest

from daemon.settings import Secret, SettingsError
from daemon.settings.base import Section, Table
from daemon.settings.loading import load_model

VALUE = "hunter2-correct-horse"


class Account(Section):
    """A section with a secret."""

    user: str = "nobody"
    password: Secret


class Accounts(Section):
    """A root with secrets in it."""

    account: Account | None = None
    others: Table[Account] | None = None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its settings."""
    return tmp_path / "accounts.toml"


def loaded(file: Path, text: str, **environment: str) -> Accounts:
    """Load accounts from a file's text."""
    file.write_text(text, encoding="utf-8")
    return load_model(Accounts, file, environment)[0]


def refused(file: Path, text: str, **environment: str) -> SettingsError:
    """Load accounts, expecting to fail."""
    with pytest.raises(SettingsError) as raised:
        loaded(file, text, **environment)
    return raised.value


def everything_shown(error: BaseException) -> str:
    """Give all that an error could print, with what is behind it and its attributes."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


def test_a_secret_is_taken_from_its_variable(file: Path):
    """`{env = "NAME"}` gives the value of NAME, and only `reveal()` gives it."""
    account = loaded(file, '[account]\npassword = {env = "DB_PASSWORD"}\n', DB_PASSWORD=VALUE).account
    assert account is not None
    assert account.password.reveal() == VALUE
    assert account.password.env == "DB_PASSWORD"


def test_a_secret_is_never_shown(file: Path):
    """Neither text, nor format, nor serialisation, nor a copy of the settings shows the value."""
    settings = loaded(file, '[account]\npassword = {env = "DB_PASSWORD"}\n', DB_PASSWORD=VALUE)
    assert settings.account is not None
    secret = settings.account.password
    forms = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>80}",
        repr(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
        repr(copy.deepcopy(settings)),
        repr(dir(secret)),
    ]
    assert [form for form in forms if VALUE in form] == []
    assert json.loads(settings.model_dump_json())["account"]["password"] == {"env": "DB_PASSWORD"}


def test_a_secret_stays_in_its_process(file: Path):
    """A secret refuses to be pickled, and the refusal does not show it."""
    settings = loaded(file, '[account]\npassword = {env = "DB_PASSWORD"}\n', DB_PASSWORD=VALUE)
    with pytest.raises(TypeError) as raised:
        pickle.dumps(settings)
    assert VALUE not in everything_shown(raised.value)


def test_secrets_are_compared_by_value():
    """Two secrets are equal when name and value are."""
    assert Secret("A", "x") == Secret("A", "x")
    assert len({Secret("A", "x"), Secret("A", "x"), Secret("A", "y"), Secret("B", "x")}) == 3
    assert Secret("A", "x") != "x"


WRITTEN_OUT = {
    "a plain text": f'[account]\npassword = "{VALUE}"\n',
    "a table with the value": f'[account]\npassword = {{value = "{VALUE}"}}\n',
    "a table with more than a name": f'[account]\npassword = {{env = "A", default = "{VALUE}"}}\n',
    "a list": f'[account]\npassword = ["{VALUE}"]\n',
    "a misspelt key": f'[account]\npasword = "{VALUE}"\npassword = {{env = "NONE"}}\n',
    "in place of its table": f'account = ["{VALUE}"]\n',
    "in a table of tables": f'[others.a]\npassword = "{VALUE}"\n',
}


@pytest.mark.parametrize("text", WRITTEN_OUT.values(), ids=WRITTEN_OUT)
def test_a_secret_written_out_is_refused_unseen(file: Path, text: str):
    """A value where only a name belongs is refused, and nothing of the error repeats it."""
    assert VALUE not in everything_shown(refused(file, text, NONE="x", A="y"))


def test_the_refusal_says_what_to_write(file: Path):
    """The problem of a secret written out hides the value and tells the form that is allowed."""
    (problem,) = refused(file, f'[account]\npassword = "{VALUE}"\n').problems
    assert (problem.path, problem.value) == ("account.password", "(hidden)")
    assert problem.expected == 'a secret named by its environment variable, {env = "NAME"}'
    assert problem.remedy == 'put the value into an environment variable and write {env = "ITS_NAME"} here'


@pytest.mark.parametrize("environment", [{}, {"DB_PASSWORD": ""}])
def test_a_secret_that_is_not_set_is_a_mistake(file: Path, environment: dict[str, str]):
    """A named variable that is absent or empty is told by its name."""
    (problem,) = refused(file, '[account]\npassword = {env = "DB_PASSWORD"}\n', **environment).problems
    assert problem.expected == "a secret in the environment variable DB_PASSWORD, which is not set"
    assert problem.remedy == "set DB_PASSWORD, or name another"


@pytest.mark.parametrize(
    "variable",
    [
        {"PROJECTIOND__ACCOUNT__PASSWORD": VALUE},
        {"PROJECTIOND__ACCOUNT__PASSWORD": f'"{VALUE}"'},
        {"PROJECTIOND__ACCOUNT__PASSWORD": f'{{"value": "{VALUE}"}}'},
        {"PROJECTIOND__ACCOUNT": f'{{"password": "{VALUE}"}}'},
        {"PROJECTIOND__ACCOUNT": f'{{"password": "{VALUE}"'},
        {"PROJECTIOND__ACCOUNT__PASWORD": VALUE},
    ],
)
def test_a_secret_in_a_variable_of_the_settings_is_refused_unseen(file: Path, variable: dict[str, str]):
    """A variable that sets the key itself takes a name as well, never the value."""
    assert VALUE not in everything_shown(refused(file, 'account.password = {env = "A"}\n', A="x", **variable))


def test_a_variable_may_name_the_secret(file: Path):
    """A variable that sets the key names the secret as JSON."""
    variables = {"PROJECTIOND__ACCOUNT__PASSWORD": '{"env": "B"}', "B": VALUE}
    account = loaded(file, 'account.password = {env = "A"}\n', **variables).account
    assert account is not None
    assert account.password == Secret("B", VALUE)
