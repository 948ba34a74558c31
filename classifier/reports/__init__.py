"""Mail that machines write about mail: delivery reports, dispositions, feedback, and notices in prose.

Each module finds one kind of report in a parsed message and says what it holds (`model.Report`); none judges why
a delivery failed, which is `classifier.reasons`.
"""
