# JupyterLab on notebook 00, with every extra (--build-arg EXTRAS=training,export: those alone, for commands):
#   docker build --tag toolkit .
#   docker run --rm --publish 127.0.0.1:8888:8888 --volume toolkit-exports:/toolkit/exports toolkit
# Any command instead: docker run --rm toolkit toolkit models
FROM python:3.11-slim-bookworm
ARG EXTRAS=all
# of FiftyOne's database server
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends libcurl4 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /toolkit
COPY . .
RUN pip install --no-cache-dir -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch \
 && pip install --no-cache-dir -c constraints.txt -e ".[$EXTRAS]" \
 && (toolkit doctor --fix || true)
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--allow-root", \
     "--LabApp.default_url=/lab/tree/notebooks/00_quickstart.ipynb"]
