"""The data pipeline: batches of measurements are collected, cleaned, analysed and loaded into DuckDB and Parquet."""

from __future__ import annotations

from saga import App
from services.pipeline.analyst import analyst
from services.pipeline.cleaner import cleaner
from services.pipeline.collector import collector
from services.pipeline.saga import pipeline
from services.pipeline.warehouse import warehouse

app = App(sagas=[pipeline], participants=[collector, cleaner, analyst, warehouse], begin="earliest", partitions=4)
