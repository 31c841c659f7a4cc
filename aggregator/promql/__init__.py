"""PromQL: query text to step matrices; reads through `SeriesReader` and never writes."""
