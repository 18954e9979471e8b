"""Networks on phones and boards: ARM binaries, timing, an Android project."""
