"""Cannot be imported."""

print("about to fail")
raise LookupError("no such model file")
