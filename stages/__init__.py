"""The stages of the pipeline, the algorithms they call and the datasets they read."""
