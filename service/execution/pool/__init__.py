"""An executor over a pool of workers, regardless of where they run."""
