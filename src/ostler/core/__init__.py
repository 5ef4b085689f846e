"""The few words every other package uses: time, identity, errors, step results. Pure; imports nothing of ours."""
