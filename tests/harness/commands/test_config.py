"""`srft config`: settings of a command, and what the environment says."""


def test_the_environment_is_told_and_no_key_is(srft, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:password@host/v1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    shown = srft("config").stdout
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.splitlines() if line.strip()}
    assert lines["OPENAI_API_KEY"].startswith("set the key that an endpoint is sent, unless openai.api_key_env")
    assert lines["OPENAI_BASE_URL"].startswith("https://host/v1 where a model openai:NAME is asked")
    assert lines["HF_TOKEN"].startswith("not set the key for")
    assert "secret" not in shown
    assert "password" not in shown
