from preprocessing.mscoco.command import main

main()
