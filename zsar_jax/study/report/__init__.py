"""The report of a study: one page to look at, and the same in Markdown."""

from zsar_jax.study.report.page import write_report as write_report
