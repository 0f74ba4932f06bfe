"""Files without code: values as JSON and arrays, written whole or not at all."""
