# Mends a fault of ncnn 20261020 in its source at NCNN_SOURCE: for ARM processors with half precision, the last
# columns of 3x3 depthwise convolutions with stride 2 read two of their nine values from the wrong row where
# the output's width leaves a rest of 2 or 3 by 4 (an input of 320 px does). A mended source stays as it is.
#   cmake -DNCNN_SOURCE=... -P mend_ncnn.cmake, or include()
set(kernel ${NCNN_SOURCE}/src/layer/arm/convolutiondepthwise_3x3_pack8_fp16s.h)
if(EXISTS ${kernel})
  file(READ ${kernel} text)
  string(REPLACE "ld1    {v21.8h}, [%1]              \\n\" // r14" "ld1    {v21.8h}, [%2]              \\n\" // r14"
                 mended "${text}")
  string(REPLACE "ld1    {v26.8h}, [%1]              \\n\" // r24" "ld1    {v26.8h}, [%3]              \\n\" // r24"
                 mended "${mended}")
  if(NOT mended STREQUAL text)
    file(WRITE ${kernel} "${mended}")
  endif()
endif()
