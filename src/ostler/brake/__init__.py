"""The brake: grants, counts and withholds the right to disrupt. Nothing disruptive happens without its permit."""
