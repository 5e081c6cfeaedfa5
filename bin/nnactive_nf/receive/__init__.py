"""RECEIVE: what people have delivered for a query, and the labels once it is complete."""
