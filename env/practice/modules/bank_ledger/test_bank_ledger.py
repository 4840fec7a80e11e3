import pytest

from bank_ledger import Entry, InsufficientFunds, Ledger, LedgerError, UnknownAccount, format_cents


@pytest.fixture
def ledger():
    """Ann has 1000 cents, Bob none and an overdraft of 200."""
    ledger = Ledger()
    ledger.open("ann")
    ledger.open("bob", overdraft=200)
    ledger.deposit("ann", 1000)
    return ledger


def test_a_new_account_is_empty(ledger):
    assert ledger.balance("bob") == 0


def test_an_account_is_opened_once(ledger):
    with pytest.raises(LedgerError, match="ann is open already"):
        ledger.open("ann")


def test_a_negative_overdraft_is_refused(ledger):
    with pytest.raises(ValueError, match="not negative"):
        ledger.open("eve", -1)


def test_an_unknown_account_has_no_balance(ledger):
    with pytest.raises(UnknownAccount, match="eve"):
        ledger.balance("eve")


def test_deposit_returns_the_new_balance(ledger):
    assert ledger.deposit("ann", 50) == 1050


def test_a_deposit_to_an_unknown_account_is_refused(ledger):
    with pytest.raises(UnknownAccount, match="eve"):
        ledger.deposit("eve", 10)


def test_a_deposit_of_one_cent_is_possible(ledger):
    assert ledger.deposit("bob", 1) == 1


def test_a_deposit_of_nothing_is_refused(ledger):
    with pytest.raises(ValueError, match="positive, got 0"):
        ledger.deposit("ann", 0)


def test_withdraw_returns_the_new_balance(ledger):
    assert ledger.withdraw("ann", 300) == 700


def test_all_of_the_money_can_be_withdrawn(ledger):
    assert ledger.withdraw("ann", 1000) == 0


def test_a_negative_withdrawal_is_refused(ledger):
    with pytest.raises(ValueError, match="positive, got -5"):
        ledger.withdraw("ann", -5)


def test_without_overdraft_no_account_goes_below_zero(ledger):
    with pytest.raises(InsufficientFunds, match="ann lacks 1 cents"):
        ledger.withdraw("ann", 1001)


def test_an_overdraft_can_be_used_up(ledger):
    assert ledger.withdraw("bob", 200) == -200


def test_an_overdraft_is_a_limit(ledger):
    with pytest.raises(InsufficientFunds) as caught:
        ledger.withdraw("bob", 250)
    assert (caught.value.account, caught.value.missing) == ("bob", 50)


def test_a_refused_withdrawal_changes_nothing(ledger):
    with pytest.raises(InsufficientFunds):
        ledger.withdraw("ann", 5000)
    assert ledger.balances() == {"ann": 1000, "bob": 0}


def test_a_transfer_moves_money(ledger):
    ledger.transfer("ann", "bob", 400)
    assert ledger.balances() == {"ann": 600, "bob": 400}


def test_the_source_pays_the_fee(ledger):
    ledger.transfer("ann", "bob", 400, fee=25)
    assert ledger.balances() == {"ann": 575, "bob": 400}


def test_the_amount_of_a_transfer_is_positive_even_with_a_fee(ledger):
    with pytest.raises(ValueError, match="positive, got 0"):
        ledger.transfer("ann", "bob", 0, fee=10)
    assert ledger.balance("ann") == 1000


def test_a_transfer_to_an_unknown_account_takes_nothing(ledger):
    with pytest.raises(UnknownAccount, match="eve"):
        ledger.transfer("ann", "eve", 400)
    assert ledger.balance("ann") == 1000


def test_a_transfer_to_oneself_is_refused(ledger):
    with pytest.raises(LedgerError, match="same account"):
        ledger.transfer("ann", "ann", 10)


def test_a_transfer_is_noted_on_both_sides(ledger):
    ledger.transfer("ann", "bob", 400)
    assert ledger.entries("bob") == [Entry("bob", 400, "from ann")]
    assert ledger.entries("ann")[-1] == Entry("ann", -400, "to bob")


def test_an_entry_has_no_note_when_none_is_given():
    assert Entry("ann", 5).note == ""


def test_notes_tell_what_was_done_when_not_told(ledger):
    ledger.withdraw("ann", 10)
    assert [entry.note for entry in ledger.entries("ann")] == ["deposit", "withdrawal"]


def test_a_statement_begins_with_the_newest_booking(ledger):
    ledger.withdraw("ann", 250, "rent")
    assert ledger.statement("ann") == ["-2.50 rent", "+10.00 deposit"]


def test_a_statement_has_three_lines_when_not_told(ledger):
    for amount in (1, 2, 3, 4):
        ledger.deposit("bob", amount, "tip")
    assert ledger.statement("bob") == ["+0.04 tip", "+0.03 tip", "+0.02 tip"]


def test_a_statement_can_be_shortened(ledger):
    ledger.deposit("ann", 5, "tip")
    assert ledger.statement("ann", last=1) == ["+0.05 tip"]


def test_balances_are_a_copy(ledger):
    ledger.balances()["ann"] = 0
    assert ledger.balance("ann") == 1000


def test_total_is_the_sum_of_all_accounts(ledger):
    ledger.withdraw("bob", 150)
    assert ledger.total() == 850


def test_cents_are_written_with_two_digits():
    assert format_cents(1205) == "+12.05"


def test_a_negative_amount_has_a_minus():
    assert format_cents(-7) == "-0.07"


def test_zero_has_a_plus():
    assert format_cents(0) == "+0.00"


def test_an_entry_cannot_be_changed(ledger):
    with pytest.raises(AttributeError):
        ledger.entries("ann")[0].amount = 5
