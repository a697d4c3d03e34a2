"""Finding environments, and what `env_config` becomes."""

from __future__ import annotations

import sys

import gymnasium
import pytest
import rl_envs

from graphray import rl
from graphray.rl import registry
from graphray.rl.environments import make, register
from graphray.rl.registry import lookup


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(registry, "_known", {})


def made(source, config=None):
    return make(register(source, config, probe=False))


# -- sources -----------------------------------------------------------------------------------------------------------


def test_ids_classes_functions_paths_and_names():
    assert lookup("CartPole-v1") == "CartPole-v1"
    assert lookup("module:Name-v0") == "module:Name-v0"
    assert lookup("ALE/Pong-v5") == "ALE/Pong-v5"
    assert lookup(rl_envs.Walk) is rl_envs.Walk
    assert lookup("rl_envs.Walk") is rl_envs.Walk
    assert lookup("graphray.rl.envs.MazeEnv") is lookup("MazeEnv")
    assert made(lambda: rl_envs.Walk(ends=2)).ends == 2


def test_registered_names():
    rl.register_env("mine", lambda config: rl_envs.Walk(ends=config["ends"]))
    assert made("mine", {"ends": 6}).ends == 6
    rl.register_env("mine", rl_envs.Walk)
    assert made("mine", {"cut": 7}).cut == 7
    rl.register_env("CartPole-v1", rl_envs.Walk)  # a registered name comes first
    assert isinstance(made("CartPole-v1"), rl_envs.Walk)
    rl.register_env("a.name", rl_envs.Walk)
    assert isinstance(made("a.name"), rl_envs.Walk)


def test_what_cannot_be_registered():
    with pytest.raises(TypeError, match="name of an environment is text"):
        rl.register_env("", rl_envs.Walk)
    with pytest.raises(TypeError, match="class or a function"):
        rl.register_env("mine", rl_envs.Walk())


@pytest.mark.parametrize(
    ("source", "kind", "why"),
    [
        (3, TypeError, "gymnasium id, a class"),
        ("NoSuchThing-v0", ValueError, r"no environment 'NoSuchThing-v0'.*rl\.register_env"),
        ("CartPole-v99", ValueError, "v99"),
        ("not an id", ValueError, "no environment 'not an id'"),
        ("nowhere.Env", ValueError, "no module 'nowhere'"),
        ("rl_envs.Nothing", ValueError, "module 'rl_envs' has no 'Nothing'"),
        ("rl_envs.Walk.more", ValueError, "no module 'rl_envs.Walk'"),
    ],
)
def test_what_is_not_found_is_said(source, kind, why):
    with pytest.raises(kind, match=why):
        register(source)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("subprocess.Popen", "a class without reset and step"),
        ("os.system", "is a builtin_function_or_method"),
        ("gymnasium.make", "is a function"),
        ("sys.path", "is a list"),
        ("numpy.random", "is a module"),
    ],
)
def test_a_path_names_an_environments_class_and_nothing_else(path, why):
    # A YAML file or a checkpoint names it: neither may have any function called.
    with pytest.raises(TypeError, match=rf"{why}.*a path names an environment's class"):
        lookup(path)


def test_an_error_within_the_module_is_that_error(tmp_path, monkeypatch):
    (tmp_path / "needs_something.py").write_text("import something_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="something_that_is_not_there"):
        lookup("needs_something.Env")
    sys.modules.pop("needs_something", None)


def test_gymnasium_ids_get_keywords():
    assert made("CartPole-v1", {"render_mode": "rgb_array"}).render_mode == "rgb_array"
    with pytest.raises(TypeError, match="colour"):
        made("CartPole-v1", {"colour": 3})


# -- env_config --------------------------------------------------------------------------------------------------------


class Base(rl_envs.Walk):
    def got(self, *args, **kwargs):
        super().__init__()
        self.args, self.kwargs = args, kwargs


class Config(Base):
    def __init__(self, config):
        self.got(config)


class Named(Base):
    def __init__(self, config=None):
        self.got(config)


class EnvConfig(Base):
    def __init__(self, env_config: dict):
        self.got(env_config)


class AnyName(Base):
    def __init__(self, settings):
        self.got(settings)


class Keywords(Base):
    def __init__(self, size=1, colour="red"):
        self.got(size=size, colour=colour)


class Open(Base):
    def __init__(self, **kwargs):
        self.got(**kwargs)


class Both(Base):
    def __init__(self, config=None, **kwargs):
        self.got(config, **kwargs)


class Nothing(Base):
    def __init__(self):
        self.got()


class Inherits(rl_envs.Walk):
    pass


CONFIG = {"size": 3}


@pytest.mark.parametrize(
    ("source", "config", "args", "kwargs"),
    [
        (Config, CONFIG, (CONFIG,), {}),
        (Config, None, ({},), {}),
        (Named, CONFIG, (CONFIG,), {}),
        (Named, None, ({},), {}),
        (EnvConfig, CONFIG, (CONFIG,), {}),
        (AnyName, CONFIG, (CONFIG,), {}),
        (Keywords, CONFIG, (), {"size": 3, "colour": "red"}),
        (Keywords, None, (), {"size": 1, "colour": "red"}),
        (Open, CONFIG, (), CONFIG),
        (Open, None, (), {}),
        (Both, CONFIG, (None,), CONFIG),
        (Nothing, CONFIG, (), {}),
        (Nothing, None, (), {}),
    ],
)
def test_env_config(source, config, args, kwargs):
    env = made(source, config)
    assert (env.args, env.kwargs) == (args, kwargs)


def test_a_keyword_that_a_constructor_does_not_take_is_its_error():
    with pytest.raises(TypeError, match="sise"):
        made(Keywords, {"sise": 3})
    assert made(Inherits, {"ends": 3}).ends == 3


def test_functions_are_given_it_as_classes_are():
    assert made(lambda config: rl_envs.Walk(**config), {"ends": 3}).ends == 3
    assert made(lambda ends: rl_envs.Walk(ends=ends), {"ends": 3}).ends == 3
    assert made(lambda **config: rl_envs.Walk(**config), {"ends": 3}).ends == 3


def test_env_config_is_not_shared():
    config = {"ends": [3]}
    env = register(lambda config: Config(config), config, probe=False)
    config["ends"].append(4)
    assert make(env).args == ({"ends": [3]},)
    make(env).args[0]["ends"].append(5)
    assert make(env).args == ({"ends": [3]},)


def test_gymnasium_environments_that_need_a_package_say_so(monkeypatch):
    def missing(*_, **__):
        raise gymnasium.error.DependencyNotInstalled('Box2D is not installed, run `pip install "gymnasium[box2d]"`')

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(ModuleNotFoundError, match=r"LunarLander-v3.*gymnasium\[box2d\]"):
        register("LunarLander-v3")
