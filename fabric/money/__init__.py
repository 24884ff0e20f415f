"""The money view of the journal: what every instance has cost, for what, and what the budgets still allow."""
