"""What several commands need: flags, progress, facts about the system."""
