"""Live sources: topics of others, with records of any form, mapped and carried into Tierstream's input topics."""
