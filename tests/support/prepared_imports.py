"""Modules imported ahead of time for forked test processes (servers and commands of `upres`). Must not start a thread."""
# ruff: noqa: F401

import gc
import ssl

import alembic.autogenerate
import alembic.command
import alembic.context
import alembic.op
import fake
import mako.template
import pydantic.v1
import serve
import sqlalchemy.dialects.sqlite
import uvicorn.lifespan.off
import uvicorn.protocols.websockets.websockets_sansio_impl

import upres.service.cli.info
import upres.service.cli.live
import upres.service.cli.main
import upres.service.cli.remote
import upres.service.cli.run.command
import upres.service.cli.serve
import upres.service.cli.stream
import upres.service.execution.local

gc.collect()
gc.freeze()  # otherwise garbage collection would copy all of it in every process
