import pytest

from inventory import Inventory, OutOfStock, Product, Shelf

PEN = Product("P1", "Pen", 150, frozenset({"office", "ink"}), reorder_at=3)
CUP = Product("C1", "Cup", 499, frozenset({"office"}))


@pytest.fixture
def stock():
    """Ten pens in the main place, four in the attic; no cups."""
    stock = Inventory()
    stock.add_product(PEN)
    stock.add_product(CUP)
    stock.receive("P1", 10)
    stock.receive("P1", 4, "attic")
    return stock


def test_a_product_has_no_tags_when_not_told():
    assert Product("X1", "Box", 5).tags == frozenset()


def test_a_product_is_reordered_at_five_when_not_told():
    assert CUP.reorder_at == 5


def test_a_product_may_be_free():
    assert Product("X1", "Box", 0).price == 0


def test_a_negative_price_is_refused():
    with pytest.raises(ValueError, match="X1: the price is negative"):
        Product("X1", "Box", -1)


def test_an_article_number_has_letters_and_digits_only():
    with pytest.raises(ValueError, match="'X 1' is no article number"):
        Product("X 1", "Box", 5)


def test_a_discount_lowers_the_price():
    assert CUP.discounted(20).price == 399


def test_a_discount_leaves_the_product_alone():
    CUP.discounted(50)
    assert CUP.price == 499


def test_a_discount_may_be_everything():
    assert CUP.discounted(100).price == 0


def test_a_discount_may_be_nothing():
    assert CUP.discounted(0) == CUP


def test_a_discount_of_more_than_everything_is_refused():
    with pytest.raises(ValueError, match="discount of 101 percent"):
        CUP.discounted(101)


def test_a_negative_discount_is_refused():
    with pytest.raises(ValueError, match="discount of -1 percent"):
        CUP.discounted(-1)


def test_shelves_do_not_share_their_places():
    Shelf(PEN).places["main"] = 1
    assert Shelf(CUP).places == {}


def test_a_new_shelf_has_nothing_reserved():
    assert Shelf(PEN).reserved == 0


def test_inventories_do_not_share_their_shelves(stock):
    assert Inventory().shelves == {}


def test_a_product_is_added_once(stock):
    with pytest.raises(ValueError, match="P1 is known already"):
        stock.add_product(PEN)


def test_an_unknown_product_has_no_shelf(stock):
    with pytest.raises(KeyError, match="no product Z9"):
        stock.shelf("Z9")


def test_units_are_received_at_the_main_place_when_not_told(stock):
    stock.receive("C1", 2)
    assert stock.shelf("C1").places == {"main": 2}


def test_units_at_a_place_are_added_up(stock):
    stock.receive("P1", 3, "attic")
    assert stock.shelf("P1").places == {"main": 10, "attic": 7}


def test_receive_returns_the_total(stock):
    assert stock.receive("P1", 1) == 15


def test_an_empty_delivery_is_refused(stock):
    with pytest.raises(ValueError, match="at least one unit"):
        stock.receive("P1", 0)


def test_reserve_returns_what_is_free(stock):
    assert stock.reserve("P1", 6) == 8


def test_one_unit_is_reserved_when_not_told(stock):
    assert stock.reserve("P1") == 13


def test_everything_can_be_reserved(stock):
    assert stock.reserve("P1", 14) == 0


def test_no_more_than_is_free_can_be_reserved(stock):
    stock.reserve("P1", 10)
    with pytest.raises(OutOfStock, match="P1: asked for 5, free 4"):
        stock.reserve("P1", 5)


def test_release_gives_units_back(stock):
    stock.reserve("P1", 6)
    assert stock.release("P1", 2) == 10


def test_one_unit_is_released_when_not_told(stock):
    stock.reserve("P1", 6)
    assert stock.release("P1") == 9


def test_no_more_than_is_reserved_can_be_released(stock):
    stock.reserve("P1", 1)
    with pytest.raises(ValueError, match="P1: only 1 reserved"):
        stock.release("P1", 2)


def test_ship_takes_from_the_fullest_place(stock):
    stock.reserve("P1", 3)
    assert stock.ship("P1", 3) == {"main": 3}


def test_ship_goes_on_at_the_next_place(stock):
    stock.reserve("P1", 12)
    assert stock.ship("P1", 12) == {"main": 10, "attic": 2}


def test_equally_full_places_are_taken_by_name(stock):
    stock.receive("C1", 2, "west")
    stock.receive("C1", 2, "east")
    stock.reserve("C1")
    assert stock.ship("C1") == {"east": 1}


def test_shipped_units_are_gone(stock):
    stock.reserve("P1", 12)
    stock.ship("P1", 12)
    assert stock.shelf("P1").places == {"main": 0, "attic": 2}


def test_shipping_leaves_other_reservations(stock):
    stock.reserve("P1", 5)
    stock.ship("P1")
    assert stock.shelf("P1").reserved == 4


def test_only_reserved_units_are_shipped(stock):
    with pytest.raises(ValueError, match="only 0 reserved"):
        stock.ship("P1", 1)


def test_what_is_low_is_reordered(stock):
    assert stock.to_reorder() == ["C1"]


def test_the_reorder_limit_counts_as_low(stock):
    stock.reserve("P1", 11)
    assert stock.to_reorder() == ["C1", "P1"]


def test_one_above_the_limit_is_not_low(stock):
    stock.reserve("P1", 10)
    assert stock.to_reorder() == ["C1"]


def test_find_needs_all_the_tags(stock):
    assert stock.find("office", "ink") == [PEN]


def test_find_puts_the_cheapest_first(stock):
    assert stock.find("office") == [PEN, CUP]


def test_find_may_ask_for_a_price(stock):
    assert stock.find(most=498) == [PEN]


def test_find_takes_the_price_itself(stock):
    assert stock.find(most=499) == [PEN, CUP]


def test_equal_prices_are_ordered_by_article_number(stock):
    stock.add_product(Product("A1", "Ale", 499))
    assert [product.sku for product in stock.find()] == ["P1", "A1", "C1"]


def test_worth_counts_reserved_units(stock):
    stock.receive("C1", 1)
    stock.reserve("P1", 5)
    assert stock.worth() == 2599
