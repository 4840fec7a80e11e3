"""A warehouse: products, stock by location, reservations, prices with discounts."""

from dataclasses import dataclass, field, replace


class OutOfStock(Exception):
    """Fewer units are free than were asked for."""


@dataclass(frozen=True)
class Product:
    """What can be stored; prices in cents, and `tags` for searching."""

    sku: str
    name: str
    price: int
    tags: frozenset[str] = frozenset()
    reorder_at: int = 5

    def __post_init__(self) -> None:
        if self.price < 0:
            raise ValueError(f"{self.sku}: the price is negative")
        if not self.sku.isalnum():
            raise ValueError(f"{self.sku!r} is no article number")

    def discounted(self, percent: int) -> "Product":
        """The same product with its price lowered, rounded down to a whole cent."""
        if not 0 <= percent <= 100:
            raise ValueError(f"a discount of {percent} percent")
        return replace(self, price=self.price * (100 - percent) // 100)


@dataclass
class Shelf:
    """The units of one product: how many at each place, and how many are reserved."""

    product: Product
    places: dict[str, int] = field(default_factory=dict)
    reserved: int = 0

    @property
    def total(self) -> int:
        return sum(self.places.values())

    @property
    def free(self) -> int:
        return self.total - self.reserved

    def take(self, count: int) -> dict[str, int]:
        """Remove units, from the fullest places first; returns how many came from where."""
        taken = {}
        for place in sorted(self.places, key=lambda name: (-self.places[name], name)):
            part = min(count, self.places[place])
            if part > 0:
                taken[place] = part
                self.places[place] -= part
                count -= part
        return taken


@dataclass
class Inventory:
    """Shelves by article number."""

    shelves: dict[str, Shelf] = field(default_factory=dict)

    def add_product(self, product: Product) -> None:
        if product.sku in self.shelves:
            raise ValueError(f"{product.sku} is known already")
        self.shelves[product.sku] = Shelf(product)

    def shelf(self, sku: str) -> Shelf:
        if sku not in self.shelves:
            raise KeyError(f"no product {sku}")
        return self.shelves[sku]

    def receive(self, sku: str, count: int, place: str = "main") -> int:
        """Put units at a place and return how many there are in all places."""
        if count <= 0:
            raise ValueError("a delivery has at least one unit")
        shelf = self.shelf(sku)
        shelf.places[place] = shelf.places.get(place, 0) + count
        return shelf.total

    def reserve(self, sku: str, count: int = 1) -> int:
        """Keep units for a customer and return how many are still free."""
        shelf = self.shelf(sku)
        if count > shelf.free:
            raise OutOfStock(f"{sku}: asked for {count}, free {shelf.free}")
        shelf.reserved += count
        return shelf.free

    def release(self, sku: str, count: int = 1) -> int:
        """Give reserved units back and return how many are free."""
        shelf = self.shelf(sku)
        if count > shelf.reserved:
            raise ValueError(f"{sku}: only {shelf.reserved} reserved")
        shelf.reserved -= count
        return shelf.free

    def ship(self, sku: str, count: int = 1) -> dict[str, int]:
        """Send reserved units away; returns how many came from where."""
        self.release(sku, count)
        return self.shelf(sku).take(count)

    def to_reorder(self) -> list[str]:
        """Article numbers with no more free units than their product's limit, in order."""
        low = [sku for sku, shelf in self.shelves.items() if shelf.free <= shelf.product.reorder_at]
        return sorted(low)

    def find(self, *tags: str, most: int | None = None) -> list[Product]:
        """Products that have all the tags and cost no more than `most`, cheapest first."""
        products = [shelf.product for shelf in self.shelves.values()]
        found = [each for each in products if each.tags.issuperset(tags) and (most is None or each.price <= most)]
        return sorted(found, key=lambda each: (each.price, each.sku))

    def worth(self) -> int:
        """The price of everything in stock, reserved units too."""
        return sum(shelf.total * shelf.product.price for shelf in self.shelves.values())
