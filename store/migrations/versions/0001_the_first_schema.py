"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("pk", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_accounts")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "corrections",
        sa.Column("pk", BIG, nullable=False),
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("from_folder", sa.String(length=255), nullable=False),
        sa.Column("to_folder", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_corrections")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_corrections_id", "corrections", ["id"], unique=False)
    op.create_table(
        "export_cursors",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("message_pk", sa.BigInteger(), nullable=False),
        sa.Column("updated_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_export_cursors")),
    )
    op.create_table(
        "folders",
        sa.Column("pk", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("uidnext", sa.BigInteger(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("expunged_floor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_folders")),
        sa.UniqueConstraint("name", name=op.f("uq_folders_name")),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
    )
    op.create_table(
        "segments",
        sa.Column("pk", BIG, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("retention_class", sa.String(length=64), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("live_messages", sa.BigInteger(), nullable=False),
        sa.Column("live_bytes", sa.BigInteger(), nullable=False),
        sa.Column("written_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_segments")),
        sa.UniqueConstraint("path", name=op.f("uq_segments_path")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "stream_cursors",
        sa.Column("stream", sa.String(length=255), nullable=False),
        sa.Column("lsn", sa.BigInteger(), nullable=False),
        sa.Column("ahead", sa.Text(), nullable=False),
        sa.Column("updated_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name=op.f("pk_stream_cursors")),
    )
    op.create_table(
        "account_flags",
        sa.Column("account_pk", sa.Integer(), nullable=False),
        sa.Column("folder_pk", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bits", sa.SmallInteger(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_pk"], ["accounts.pk"], name=op.f("fk_account_flags_account_pk"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["folder_pk"], ["folders.pk"], name=op.f("fk_account_flags_folder_pk")),
        sa.PrimaryKeyConstraint("account_pk", "folder_pk", "uid", name=op.f("pk_account_flags")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_account_flags_account_pk_folder_pk_modseq",
        "account_flags",
        ["account_pk", "folder_pk", "modseq"],
        unique=False,
    )
    op.create_index("ix_account_flags_folder_pk_uid", "account_flags", ["folder_pk", "uid"], unique=False)
    op.create_table(
        "expunged",
        sa.Column("folder_pk", sa.Integer(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["folder_pk"], ["folders.pk"], name=op.f("fk_expunged_folder_pk")),
        sa.PrimaryKeyConstraint("folder_pk", "modseq", "uid", name=op.f("pk_expunged")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "messages",
        sa.Column("pk", BIG, nullable=False),
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("received_ns", sa.BigInteger(), nullable=False),
        sa.Column("filed_ns", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("segment_pk", BIG, nullable=False),
        sa.Column("frame_offset", sa.BigInteger(), nullable=False),
        sa.Column("frame_bytes", sa.BigInteger(), nullable=False),
        sa.Column("annotation_bytes", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("unparsable", sa.Boolean(), nullable=False),
        sa.Column("opt_out", sa.Boolean(), nullable=False),
        sa.Column("envelope_from", sa.Text(), nullable=True),
        sa.Column("envelope_to", sa.Text(), nullable=False),
        sa.Column("mail_arg", sa.LargeBinary(), nullable=False),
        sa.Column("rcpt_args", sa.LargeBinary(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("helo", sa.Text(), nullable=False),
        sa.Column("answered", sa.SmallInteger(), nullable=True),
        sa.Column("fate", sa.String(length=16), nullable=False),
        sa.Column("legacy", sa.Text(), nullable=False),
        sa.Column("outcomes", sa.Text(), nullable=False),
        sa.Column("imap_envelope", sa.LargeBinary(), nullable=True),
        sa.Column("imap_bodystructure", sa.LargeBinary(), nullable=True),
        sa.Column("header_bytes", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["segment_pk"], ["segments.pk"], name=op.f("fk_messages_segment_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_messages")),
        sa.UniqueConstraint("id", name=op.f("uq_messages_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_messages_received_ns", "messages", ["received_ns"], unique=False)
    op.create_index("ix_messages_segment_pk", "messages", ["segment_pk"], unique=False)
    op.create_table(
        "entries",
        sa.Column("folder_pk", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_pk", BIG, nullable=False),
        sa.Column("received_s", sa.BigInteger(), nullable=False),
        sa.Column("shown_bytes", sa.BigInteger(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("keywords", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["folder_pk"], ["folders.pk"], name=op.f("fk_entries_folder_pk")),
        sa.ForeignKeyConstraint(["message_pk"], ["messages.pk"], name=op.f("fk_entries_message_pk")),
        sa.PrimaryKeyConstraint("folder_pk", "uid", name=op.f("pk_entries")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_entries_expiry",
        "entries",
        ["folder_pk", "received_s"],
        unique=False,
        sqlite_where=sa.text("flagged = 0"),
        postgresql_where=sa.text("NOT flagged"),
    )
    op.create_index("ix_entries_folder_pk_modseq", "entries", ["folder_pk", "modseq"], unique=False)
    op.create_index("ix_entries_message_pk", "entries", ["message_pk"], unique=False)
    op.create_table(
        "recipients",
        sa.Column("message_pk", BIG, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("original", sa.Text(), nullable=True),
        sa.Column("action", sa.String(length=16), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=True),
        sa.Column("reply_code", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("category", sa.String(length=16), nullable=True),
        sa.Column("counts_against", sa.String(length=16), nullable=True),
        sa.Column("final", sa.Boolean(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_pk"], ["messages.pk"], name=op.f("fk_recipients_message_pk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message_pk", "position", name=op.f("pk_recipients")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_recipients_address", "recipients", ["address"], unique=False)
    op.create_index("ix_recipients_original", "recipients", ["original"], unique=False)
