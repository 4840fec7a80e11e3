"""Ages in whole years."""


def age_in(year, born):
    """The age that is reached in a year."""
    return year - born


def is_adult(age):
    """Whether one is 18 or older."""
    return age >= 18


def is_teen(age):
    """Whether one is 13 to 19."""
    return 13 <= age <= 19


def years_to(age, goal=65):
    """The years until goal, 0 when it is reached."""
    return max(goal - age, 0)


def older(first, second):
    """The higher of two ages."""
    return max(first, second)


def average_age(ages):
    """The mean of the ages, rounded down."""
    return sum(ages) // len(ages)


def adults(ages):
    """Those ages that are 18 or more, in the same order."""
    return [age for age in ages if age >= 18]


def in_months(years, months=0):
    """Years and months in months."""
    return years * 12 + months
