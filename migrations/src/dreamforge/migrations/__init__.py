"""The read database's versions, importable so that every install can migrate."""
