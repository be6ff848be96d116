"""What units are called, which words multiply, and which words make a number say something else."""

from __future__ import annotations

# A line: the name that counts, then what else is written for it. Signs keep their case.
ALIASES = """
mm millimeter millimetre
cm centimeter centimetre cms
dm decimeter decimetre
m meter metre mtr
km kilometer kilometre kms
in inch inches
ft foot feet
yd yard yds
mi mile
nm nanometer nanometre
g gram gramme gm gms
kg kilogram kilo kgs
mg milligram
lb pound lbs
oz ounce
ton tonne
s sec second secs
ms millisecond
min minute mins
h hour hr hrs
day
week wk
month
year yr yrs
L liter litre l
mL milliliter millilitre ml
gal gallon
acre
ha hectare
N newton
J joule
kJ kilojoule
cal calorie
kcal kilocalorie
eV electronvolt
erg
W watt
kW kilowatt
Pa pascal
kPa kilopascal
atm atmosphere
V volt
A amp ampere
ohm
C coulomb
F farad
T tesla
Hz hertz
kHz kilohertz
MHz megahertz
K kelvin
mol mole
M molar
dollar USD usd \\$ $ buck
cent ¢
euro EUR eur €
sterling GBP gbp £ quid
yen JPY jpy ¥
rupee Rs rs INR inr ₹
yuan RMB rmb CNY cny
degree deg degs
radian rad rads
celsius
fahrenheit
unit
mph
kph kmph kmh
"""
COMPOSED = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}}
POWERS_OF_TEN = {
    "tenth": -1,
    "hundredth": -2,
    "thousandth": -3,
    "millionth": -6,
    "billionth": -9,
    "ten": 1,
    "hundred": 2,
    "thousand": 3,
    "k": 3,
    "million": 6,
    "mn": 6,
    "billion": 9,
    "bn": 9,
    "trillion": 12,
    "quadrillion": 15,
    "lakh": 5,
    "crore": 7,
}
DOZEN = "dozen"
PERCENT = frozenset(("percent", "pct", "percentage"))
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}

# Behind a number these words make it another number, several numbers, or none.
CHANGING = """
and or nor not no none neither either but except excluding without through to until than more less
fewer greater least most above below under beyond up down between within plus minus times divided
multiplied by added subtracted squared cubed root factorial power exponent log ln mod modulo base
half halves third thirds fourth fourths quarter quarters fifth fifths sixth sixths eighth eighths
double triple twice thrice if when where unless only otherwise is are was be equals equal isn't
wrong false true maybe perhaps possibly approximately remainder pi infinity infinite imaginary
one two three four five six seven eight nine eleven twelve off short negative over ratio
"""
RESERVED = frozenset(CHANGING.split())


def alias_table() -> dict[str, str]:
    """Return the name that counts for each way to write a unit."""
    table = {}
    for line in ALIASES.strip().split("\n"):
        name, *others = line.split()
        for other in (name, *others):
            table[other] = name
    return table


NAMES = alias_table()
# Without \text a letter is a variable; a few signs may touch the number, as in 5cm.
BARE = frozenset(name for name in NAMES if len(name) > 1 and name.isalpha() and name not in ("in", "mn"))
TOUCHING = "cm km mm kg ft lb lbs mph min sec hr hrs mL ml dollars euros degrees"
TIGHT = frozenset(TOUCHING.split())
