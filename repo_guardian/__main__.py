"""`python -m repo_guardian` is the command `repo-guardian`."""

from repo_guardian.cli import main

main(prog_name="repo-guardian")
