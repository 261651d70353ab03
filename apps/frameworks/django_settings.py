"""Django's settings, for every mount in it. In: nothing. Out: what differs from Django's own defaults.

No application, no middleware, no database. Each mount names its routes itself: `settings.ROOT_URLCONF = __name__`.
Logging stays Django's: without DEBUG it prints no refusal, where without any handler Python would.
"""

from __future__ import annotations

DEBUG = False
ALLOWED_HOSTS = ["*"]  # who asks is the bench, and only on loopback
USE_I18N = False
TIME_ZONE = None  # the machine's: any other would be set for the whole process
MIDDLEWARE: list[str] = []
INSTALLED_APPS: list[str] = []
