"""Credentials: what is taken out, what stays, in texts and in pages."""

import pytest

from srft.harness.look.web.credentials import REMOVED, Secrets, without, without_in_html

SECRETS = Secrets.here({"MY_API_KEY": "hunter2hunter2", "HOME": "/root/of/all", "SHORT_KEY": "abc"})
KEY = "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://me:pw@host/path", f"https://{REMOVED}@host/path"),
        (
            "git clone https://ghp_0123456789abcdefghijklmnop@github.com/a/b",
            f"git clone https://{REMOVED}@github.com/a/b",
        ),
        ("curl -H 'Authorization: Bearer abc.def.ghi' x", f"curl -H 'Authorization: {REMOVED}' x"),
        ('{"authorization": "Basic dXNlcjpwdw=="}', f'{{"authorization": "{REMOVED}"}}'),
        ('{\\"Authorization\\": \\"token 0123456789\\"}', f'{{\\"Authorization\\": \\"{REMOVED}\\"}}'),
        ("x-api-key: 0123456789abcdef0", f"x-api-key: {REMOVED}"),
        (f"api_key: {KEY}", f"api_key: {REMOVED}"),
        (f"say {KEY}!", f"say {REMOVED}!"),
        ("export HF_TOKEN=hf_0123456789abcdefABCDEF", f"export HF_TOKEN={REMOVED}"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", f"AWS_SECRET_ACCESS_KEY={REMOVED}"),
        ("AKIAIOSFODNN7EXAMPLE", REMOVED),
        ("https://hooks.slack.com/services/T0/B0/XXX", f"https://hooks.slack.com/services/{REMOVED}"),
        ("it is hunter2hunter2.", f"it is {REMOVED}."),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
            f"-----BEGIN RSA PRIVATE KEY-----{REMOVED}-----END RSA PRIVATE KEY-----",
        ),
    ],
)
def test_what_is_taken_out(text, left):
    assert without(text, SECRETS) == (left, 1)


@pytest.mark.parametrize(
    "text",
    [
        "https://host/path?q=a@b",
        "ssh://git@github.com/a/b and git@github.com:a/b",
        "token = self.tokens.get(name)",
        "password = forms.CharField(widget=forms.PasswordInput)",
        "SECRET_KEY = os.environ['SECRET_KEY']",
        "raise ValidationError(self.error_messages['authorization'])",
        "/root/of/all abc a@b.org",
        "the task-key sk-learn and disk-based",
        "cache_key = 'views.decorators.cache.cache_header'",
    ],
)
def test_what_stays(text):
    assert without(text, SECRETS) == (text, 0)


def test_in_a_page_also_where_markup_or_entities_stand_within():
    head = "-H <i>&#34;Authorization</i>: "
    page = f'<p title="{KEY}">a &lt; b</p><pre>{head}<b>Bearer</b> abc<b>.def.</b>ghi&#34; &amp;&amp; x</pre>'
    left = f'<p title="{REMOVED}">a &lt; b</p><pre>{head}<b>{REMOVED}</b><b></b>&#34; &amp;&amp; x</pre>'
    assert without_in_html(page, SECRETS) == (left, 2)
    clean = "<p>a &lt; b</p>"
    assert without_in_html(clean, SECRETS) == (clean, 0)
