"""Reading and writing files so that nothing of the user's is lost: budgets, whole folders."""
