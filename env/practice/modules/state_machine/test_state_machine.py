import unittest

from state_machine import Machine, Transition, TransitionError, order, turnstile


class TurnstileTest(unittest.TestCase):
    def test_it_is_locked_at_first(self):
        self.assertEqual(turnstile().state, "locked")

    def test_a_coin_unlocks_it(self):
        self.assertEqual(turnstile().send("coin"), "unlocked")

    def test_a_push_locks_it_again(self):
        self.assertEqual(turnstile().send_all("coin", "push"), ["unlocked", "locked"])

    def test_a_push_does_not_open_it(self):
        with self.assertRaisesRegex(TransitionError, "'push' is not allowed in state 'locked'"):
            turnstile().send("push")

    def test_coins_are_counted(self):
        machine = turnstile()
        machine.send_all("coin", "coin", "push", "coin")
        self.assertEqual(machine.context, {"coins": 3})

    def test_there_are_no_coins_at_first(self):
        self.assertEqual(turnstile().context, {"coins": 0})


class OrderTest(unittest.TestCase):
    def test_the_exact_amount_pays(self):
        self.assertEqual(order(50).send("pay", amount=50), "paid")

    def test_too_little_does_not_pay(self):
        with self.assertRaises(TransitionError):
            order(50).send("pay", amount=49)

    def test_nothing_was_paid_at_first(self):
        self.assertFalse(order(1).can("pay"))

    def test_a_free_order_can_be_paid_with_nothing(self):
        self.assertTrue(order(0).can("pay"))

    def test_a_refused_payment_is_not_kept(self):
        machine = order(50)
        with self.assertRaises(TransitionError):
            machine.send("pay", amount=49)
        self.assertEqual(machine.context, {"total": 50, "amount": 0})

    def test_a_payment_is_kept(self):
        machine = order(50)
        machine.send("pay", amount=60)
        self.assertEqual(machine.context, {"total": 50, "amount": 60})

    def test_a_paid_order_is_shipped(self):
        machine = order(0)
        self.assertEqual(machine.send_all("pay", "ship"), ["paid", "shipped"])

    def test_a_new_order_is_cancelled(self):
        self.assertEqual(order(5).send("cancel"), "cancelled")

    def test_a_paid_order_is_refunded(self):
        self.assertEqual(order(0).send_all("pay", "cancel"), ["paid", "refunded"])

    def test_a_shipped_order_cannot_be_cancelled(self):
        machine = order(0)
        machine.send_all("pay", "ship")
        with self.assertRaises(TransitionError) as caught:
            machine.send("cancel")
        self.assertEqual((caught.exception.state, caught.exception.event), ("shipped", "cancel"))

    def test_an_order_can_be_lost_at_any_time(self):
        self.assertEqual(order(0).send_all("pay", "ship", "lose"), ["paid", "shipped", "lost"])


class MachineTest(unittest.TestCase):
    def test_allowed_events_are_in_alphabetical_order(self):
        self.assertEqual(order(0).events(), ["cancel", "lose", "pay"])

    def test_events_that_a_guard_refuses_are_not_allowed(self):
        self.assertEqual(order(5).events(), ["cancel", "lose"])

    def test_can_tells_without_a_step(self):
        machine = turnstile()
        self.assertTrue(machine.can("coin"))
        self.assertEqual(machine.state, "locked")

    def test_cannot_do_an_unknown_event(self):
        self.assertFalse(turnstile().can("kick"))

    def test_the_first_matching_transition_is_taken(self):
        machine = Machine("a", [Transition("a", "go", "b"), Transition("a", "go", "c")])
        self.assertEqual(machine.send("go"), "b")

    def test_the_history_tells_from_event_and_to(self):
        machine = turnstile()
        machine.send("coin")
        self.assertEqual(machine.history, [("locked", "coin", "unlocked")])

    def test_last_gives_one_step_when_not_told(self):
        machine = turnstile()
        machine.send_all("coin", "push")
        self.assertEqual(machine.last(), [("unlocked", "push", "locked")])

    def test_last_gives_steps_oldest_first(self):
        machine = turnstile()
        machine.send_all("coin", "coin", "push")
        self.assertEqual(machine.last(2), [("unlocked", "coin", "unlocked"), ("unlocked", "push", "locked")])

    def test_last_gives_all_where_there_are_fewer(self):
        machine = turnstile()
        machine.send_all("coin", "push")
        self.assertEqual(len(machine.last(3)), 2)

    def test_reset_goes_back_to_the_start(self):
        machine = turnstile()
        machine.send("coin")
        machine.reset()
        self.assertEqual((machine.state, machine.context, machine.history), ("locked", {"coins": 0}, []))

    def test_reset_can_be_repeated(self):
        machine = turnstile()
        for _ in range(2):
            machine.send("coin")
            machine.reset()
        self.assertEqual(machine.context, {"coins": 0})

    def test_the_context_is_a_copy(self):
        context = {"coins": 0}
        machine = Machine("a", [Transition("a", "go", "a", action=lambda held: held.clear())], context)
        machine.send("go")
        self.assertEqual(context, {"coins": 0})

    def test_the_given_context_may_change_later(self):
        context = {"coins": 0}
        machine = Machine("a", [], context)
        context["coins"] = 7
        machine.reset()
        self.assertEqual(machine.context, {"coins": 0})

    def test_the_transitions_are_a_copy(self):
        transitions = [Transition("a", "go", "b")]
        machine = Machine("a", transitions)
        transitions.clear()
        self.assertTrue(machine.can("go"))

    def test_reset_undoes_changes_of_the_context(self):
        machine = Machine("a", [], {"coins": 0})
        for _ in range(2):
            machine.context["coins"] = 7
            machine.reset()
        self.assertEqual(machine.context, {"coins": 0})

    def test_a_machine_needs_no_context(self):
        self.assertEqual(Machine("a", []).context, {})


if __name__ == "__main__":
    unittest.main()
